"""Checks of this installation: each that is not well says what mends it."""

from __future__ import annotations

import pytest

from mamlcli.cli.diagnosis import checks
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK


def test_a_missing_compiler_is_lacking(monkeypatch):
    monkeypatch.setattr("mamlcli.engine.explicit.compilation.has_compiler", lambda: False)
    (found,) = checks.compiler_findings()
    assert found.status == LACKING
    assert "g++" in str(found.remedy)


def test_a_folder_of_data_that_is_named_and_not_there_is_made_by_its_remedy(tmp_path):
    findings = {finding.name: finding for finding in checks.data_findings()}
    assert findings["folder"].status == LACKING
    assert findings["folder"].remedy.startswith(f"mkdir -p {tmp_path}/data")
    (tmp_path / "data").mkdir()
    assert {finding.name: finding for finding in checks.data_findings()}["folder"].status == OK


def test_a_machine_without_a_gpu_lacks_nothing_but_a_driver_without_one_does(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(checks.Path, "exists", lambda path: False)
    monkeypatch.setattr(checks.shutil, "which", lambda name: None)
    [without] = checks.gpu_findings()
    monkeypatch.setattr(checks.shutil, "which", lambda name: f"/usr/bin/{name}")
    [with_driver] = checks.gpu_findings()
    assert (without.status, with_driver.status) == (OK, LACKING)


def test_glyphs_are_drawn_by_the_first_run_that_needs_them():
    [finding] = checks.glyph_findings()
    assert (finding.status, finding.found) == (OK, "not drawn yet; the first run that needs them does")


def test_an_installation_without_recipes_is_broken(monkeypatch):
    monkeypatch.setattr("mamlcli.recipe.files.shipped_recipes", dict)
    [finding] = checks.recipe_findings()
    assert (finding.status, finding.effect) == (BROKEN, "no recipe is found by name")


@pytest.mark.parametrize("is_missing", [True, False])
def test_a_check_that_raises_is_a_finding_of_its_group(monkeypatch, is_missing):
    def fail():
        raise ModuleNotFoundError("No module named 'some'", name="some.part") if is_missing else ValueError("bad")

    for name in ("package_findings", "extras_findings", "gpu_findings", "recipe_findings", "meta_iteration_findings"):
        monkeypatch.setattr(checks, name, lambda: iter(()))
    monkeypatch.setattr(checks, "processor_findings", fail)
    [finding] = [finding for finding in checks.diagnose() if finding.name == "processor"]
    assert (finding.group, finding.status) == ("device", BROKEN)
    assert (finding.remedy == "pip install some") is is_missing


def test_shipped_models_are_all_readable():
    [finding] = checks.model_findings()
    assert finding.status == "ok"
    assert finding.found.endswith(", all readable")


def test_gpu_of_a_mac_is_told_with_how_it_is_used(monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    [mps] = [finding for finding in checks.gpu_findings() if finding.name == "mps"]
    assert mps.status == OK
    assert "--device mps alone; float32 only; PYTORCH_ENABLE_MPS_FALLBACK is set" in mps.found
