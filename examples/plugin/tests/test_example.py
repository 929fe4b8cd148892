"""The names are found, the keys are checked, and a small run learns. Run: pytest"""

from __future__ import annotations

from pathlib import Path

import pytest

import mamlcli

SMALL = {"outer.iterations": 3, "outer.tasks": 2, "validation.every": None, "evaluation.tasks": 4}


def test_a_run_of_the_recipe_is_scored(tmp_path: Path) -> None:
    run = mamlcli.train("gated-steps", SMALL, run_dir=tmp_path / "run")
    assert run.recipe.model.kind == "gated"
    assert run.report["final"]["loss"]["mean"] > 0


def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mamlcli.MamlError, match=r"model\.depth: expected an integer >= 1, got 0"):
        mamlcli.train("gated-steps", SMALL, "model.depth=0", run_dir=tmp_path / "run")
