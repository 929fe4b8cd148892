"""The report of `mamlcli layers`: all four analyses of one run."""

import json

import pytest

import mamlcli
from mamlcli.common.errors import MamlError
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.layers.report import layers_report
from tests.helpers.plugins import one_file_fixture  # noqa: F401
from tests.helpers.running import TINY_IMAGES, train_tiny


def content(run, **settings):
    """Return the report of a run as `mamlcli layers --json` has it."""
    return json.loads(json.dumps(layers_report(run, **settings).to_json()))


def test_json_holds_all_four_analyses_of_a_linear_stack(deep):
    report = content(deep, num_tasks=20)
    assert [row["layer"] for row in report["movement"]] == ["head.0", "head.1", "head.2"]
    assert [(row["part"], row["num_layers"]) for row in report["partial"]] == [
        (part, num) for part in ("lower", "upper") for num in range(4)
    ]
    assert report["partial"][3]["minus_all_layers"]["loss"]["mean"] == 0.0
    operator = report["operator"]
    assert [row["layer"] for row in operator["layers"]] == ["head.0", "head.1", "head.2"]
    assert len(operator["spectrum"]) == 3
    assert operator["optimum"]["optimal"]["distance"] == 0.0
    assert operator["optimum"]["plain"]["loss_as_one_step"] > operator["optimum"]["optimal"]["loss_as_one_step"]
    assert operator["optimum"]["all_steps"]["distance"] > 0
    assert [row["upper_is_linear"] for row in report["bottom"]] == [True, True]
    assert all(row["length_ratio"]["mean"] == pytest.approx(1.0, abs=1e-3) for row in report["bottom"])
    assert report["collapse"]["max_relative_difference"] < report["collapse"]["tolerance"]
    assert (report["collapse"]["num_parameters"], report["collapse"]["num_parameters_collapsed"]) == (21, 3)
    assert report["protocol"]["num_tasks"] == 20


def test_an_image_network_with_a_stack_has_operators_but_no_known_optimum(conv_with_stack):
    report = content(conv_with_stack, num_tasks=3)
    assert len(report["operator"]["layers"]) == 3
    assert len(report["operator"]["spectrum"]) == 5 * (3 + 1)
    assert report["operator"]["optimum"] is None
    assert report["collapse"]["max_relative_difference"] < 1e-4


@pytest.mark.usefixtures("with_glyphs")
@pytest.mark.parametrize("head", ["zero", "shared"])
def test_an_output_layer_that_is_not_learned_in_full_is_studied_like_any_other(tmp_path, head):
    words = ("tasks.shots=1", *TINY_IMAGES, "model.linear_layers=1", "inner.steps=2", f"inner.head={head}")
    report = content(train_tiny(tmp_path / "run", "glyphs-5way-1shot", *words), num_tasks=3)
    output = report["movement"][-1]
    assert (output["layer"], output["num_parameters"]) == ("head.1", 5 * (3 + 1))
    assert output["distance"]["mean"] > 0
    assert (output["size"] == 0) == (head == "zero")
    assert report["partial"][-1]["minus_all_layers"]["loss"]["mean"] == 0.0
    assert [row["layer"] for row in report["operator"]["layers"]] == ["head.0", "head.1"]
    assert report["collapse"]["max_relative_difference"] < 1e-4
    if head == "zero":
        # Behind an output layer at zero no other layer has a gradient: the output layer is all of the movement.
        assert report["operator"]["layers"][0]["share"] == 0.0


def test_a_network_of_a_plugin_is_refused_before_anything_is_computed(one_file):
    small = {"outer.iterations": 1, "outer.tasks": 1, "validation.every": None, "evaluation.tasks": 2}
    run = mamlcli.train("sinusoid", "model={kind: net}", small, run_dir=one_file / "run")
    with pytest.raises(MamlError, match=r"^model\.kind=net: expected a run of a network of mamlcli's own"):
        layers_report(RunDirectory(run.path))
