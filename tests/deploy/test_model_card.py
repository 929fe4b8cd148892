"""The model card: what it says, and that its code runs."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import yaml
from markdown_it import MarkdownIt
from safetensors.torch import load_file

from mamlcli.deploy.weights import export_weights
from mamlcli.runs.entry import read_run
from tests.helpers.exported_runs import NASTY
from tests.helpers.run_folders import with_manifest
from tests.helpers.running import TINY_IMAGES, train_tiny


def test_model_card_says_what_data_protocol_result_and_limits(trained, tmp_path, with_glyphs):
    run = train_tiny(tmp_path / "run", "glyphs-5way-1shot", "tasks.shots=1", *TINY_IMAGES)
    export_weights(read_run(run.path), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    metadata = yaml.safe_load(front)
    final = json.loads((run.path / "evaluation.json").read_text())["final"]
    assert metadata["library_name"] == "pytorch"
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == final["accuracy"]["mean"]
    assert f"query loss {final['loss']['mean']:.3f} ± {final['loss']['ci95_over_tasks']:.3f}" in body
    assert f"query accuracy {100 * final['accuracy']['mean']:.1f}" in body
    for words in ("## Data", "## Result", "## Limits", "## How to load", "5-way 1-shot", "transductive", "load_module"):
        assert words in body
    code = re.findall(r"```python\n(.*?)```", body, re.DOTALL)[0]
    assert len(code.strip().splitlines()) <= 5


def test_card_of_learned_rates_says_where_they_are(tmp_path):
    run = train_tiny(tmp_path / "run", "sinusoid", "inner.rates=tensor-step", "inner.lr=0.02", "model.width=4")
    export_weights(read_run(run.path), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "a learned rate for each parameter tensor and step (at the start 0.02)" in card
    assert "`transform.safetensors`, by `<parameter name>/rate`" in card
    assert "from module import adapt" not in card
    names = load_file(tmp_path / "out" / "transform.safetensors")
    assert names["head.0.weight/rate"].shape == (run.recipe.inner.steps,)


def test_the_code_of_the_card_runs_as_it_stands(trained, tmp_path):
    export_weights(read_run(trained / "one"), tmp_path / "out")
    code = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.DOTALL)
    program = "\n".join(
        [
            code[0],
            "support_x = query_x = torch.rand(4, 20)",
            "support_y = torch.tensor([0, 1, 0, 1])",
            code[1],
            "assert outputs.shape == (4, 2)",
        ]
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_card_of_a_nasty_name_is_whole(trained, tmp_path):
    run = with_manifest(read_run(trained / "one"), recipe_name=NASTY)
    export_weights(run, tmp_path / "out")
    _, front, body = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["model-index"][0]["name"] == NASTY
    tokens = MarkdownIt("commonmark").parse(body)
    heading = tokens[[token.type for token in tokens].index("heading_open") + 1]
    assert "".join(child.content for child in heading.children) == NASTY


def test_weights_of_a_result_that_is_not_theirs_are_called_not_scored(trained, tmp_path):
    run = read_run(trained / "one")
    report = dataclasses.replace(run.report, weights="best by meta-validation, iteration 99")
    export_weights(dataclasses.replace(run, report=report), tmp_path / "out")
    assert "These weights were not scored." in (tmp_path / "out" / "README.md").read_text()
