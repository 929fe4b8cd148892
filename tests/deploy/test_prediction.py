"""A user's own images: whatever they are, they are classified as the run was trained, or listed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from mamlcli.common.errors import DataError, DeviceError, MamlError, RunError
from mamlcli.deploy.classifier import (
    SupportClassifier,
    assignments,
    class_weights,
    left_out_indices,
    with_statistics_of_first,
)
from mamlcli.deploy.files import check_outputs, write_predictions, write_sheet
from mamlcli.deploy.prediction import predict_run
from mamlcli.deploy.report import ImagePrediction, PredictionRequest
from mamlcli.deploy.tables import prediction_notes, prediction_table
from mamlcli.engine.networks import apply_network
from mamlcli.runs.folder import RunDirectory
from mamlcli.training.checkpoints import load_checkpoint, save_checkpoint
from mamlcli.training.experiment import build
from tests.helpers.image_files import class_folders, drawing, noise, save
from tests.helpers.running import TINY_IMAGES, train_tiny

TRAINING = (
    *TINY_IMAGES,
    "tasks.ways=3",
    "tasks.shots=1",
    "evaluation.split=train",
    "tasks.image_size=12",
    "inner.steps=3",
    "model.head=flatten",
    "model.width=8",
)


@pytest.fixture(scope="module", autouse=True)
def leave_threads():
    """Building a run sets the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs whose data is gone: of drawings (light on dark), of colour noise, and of noise with group norm."""
    root = tmp_path_factory.mktemp("runs")
    for index in range(6):
        for number in range(4):
            save(root / "ink" / f"c{index}" / f"{number}.png", drawing(16, seed=10 * index + number))
    class_folders(root / "noise", [f"c{index}" for index in range(6)])
    made = {}
    for name, data, more in (
        ("drawings", "ink", ["tasks.channels=1", "tasks.invert=auto"]),
        ("colour", "noise", []),
        ("group", "noise", ["model.norm=group"]),
    ):
        run = train_tiny(root / name, "folder", f"tasks.path={root / data}", *TRAINING, *more)
        made[name] = RunDirectory.open(run.path)
    shutil.rmtree(root / "ink")
    shutil.rmtree(root / "noise")
    return made


@pytest.fixture
def run(runs):
    return runs["colour"]


@pytest.fixture
def own(tmp_path):
    """A support set of three classes with one, two and three images, and a query set of known classes."""
    for index, name in enumerate("abc"):
        for number in range(3):
            image = noise(12, 12, 3, seed=50 + index)
            changed = np.clip(image.astype(int) + number, 0, 255).astype(np.uint8)
            if number <= index:
                save(tmp_path / "support" / name / f"{number}.png", changed)
            save(
                tmp_path / "query" / name / f"q{number}.png", np.clip(changed.astype(int) + 5, 0, 255).astype(np.uint8)
            )
    return tmp_path


def predict(run, own, **changes):
    request = PredictionRequest(own / "support", own / "query")
    return predict_run(run, replace(request, **changes))


def refused(error, run, own, **changes):
    with pytest.raises(error) as caught:
        predict(run, own, **changes)
    return str(caught.value)


# What is predicted -----------------------------------------------------------------------------------------


def test_images_like_the_support_are_given_its_classes_and_accuracy_is_counted(run, own):
    found = predict(run, own)
    assert found.report.to_json()["classes"] == ["a", "b", "c"]
    assert found.report.to_json()["support"]["shots"] == {"a": 1, "b": 2, "c": 3}
    assert found.report.to_json()["accuracy"]["num_images"] == 9
    right = [row["predicted"] == row["true"] for row in found.report.to_json()["predictions"]]
    assert found.report.to_json()["accuracy"]["num_right"] == sum(right) >= 8
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, rtol=1e-5)


def test_folder_of_images_without_classes_has_no_accuracy(run, own):
    for index, path in enumerate(sorted((own / "query").rglob("*.png"))):
        path.rename(own / "query" / f"{index}.png")
    for name in "abc":
        (own / "query" / name).rmdir()
    report = predict(run, own).report.to_json()
    assert len(report["predictions"]) == 9
    assert report["accuracy"] is None
    assert {row["true"] for row in report["predictions"]} == {None}


def test_prediction_of_an_image_does_not_depend_on_the_others(run, own):
    together = {row["image"]: row["probabilities"] for row in predict(run, own).report.to_json()["predictions"]}
    for name in ("a", "c"):
        path = own / "query" / name / "q1.png"
        alone = predict(run, own, query=path).report.to_json()
        assert alone["depends_on_other_queries"] is False
        assert [row["image"] for row in alone["predictions"]] == [str(path)]
        assert alone["predictions"][0]["probabilities"] == pytest.approx(together[str(path)], abs=1e-5)


def test_joint_batch_norm_depends_on_the_other_query_images_and_says_so(run, own):
    found = predict(run, own, is_joint=True)
    report = found.report.to_json()
    assert report["depends_on_other_queries"] is True
    assert "depends on all query images" in " ".join(prediction_notes(found.report).split())
    alone = predict(run, own, is_joint=True, query=own / "query" / "a" / "q1.png").report.to_json()
    assert alone["depends_on_other_queries"] is False
    of_both = [row for row in report["predictions"] if row["image"].endswith("a/q1.png")]
    assert of_both[0]["probabilities"] != pytest.approx(alone["predictions"][0]["probabilities"], abs=1e-5)


def test_network_without_batch_statistics_says_nothing_of_them(runs, own):
    found = predict(runs["group"], own, is_joint=True)
    report = found.report.to_json()
    assert report["depends_on_other_queries"] is False
    assert "batch norm" not in prediction_notes(found.report)


def test_too_many_images_for_one_batch_are_refused(run, own, monkeypatch):
    monkeypatch.setattr("mamlcli.deploy.prediction.MAX_JOINT_IMAGES", 8)
    assert "at most 8 images with --joint, got 9" in refused(DataError, run, own, is_joint=True)


def test_fewer_classes_than_the_head_share_the_probability_among_themselves(run, own):
    shutil.rmtree(own / "support" / "c")
    shutil.rmtree(own / "query" / "c")
    found = predict(run, own)
    report = found.report.to_json()
    assert all(sum(row["probabilities"].values()) == pytest.approx(1.0) for row in report["predictions"])
    assert all(set(row["probabilities"]) == {"a", "b"} for row in report["predictions"])
    assert "over 2 of the head's 3 outputs" in prediction_notes(found.report)


def test_more_classes_than_the_head_are_refused_with_what_to_do(run, own):
    save(own / "support" / "d" / "0.png", noise(12, 12, 3))
    message = refused(DataError, run, own)
    assert "expected 2 to 3 class folders, the outputs of the run's head, got 4: a, b, c, d" in message
    assert "tasks.ways=4" in message


def test_one_class_is_refused(run, own):
    for name in "bc":
        shutil.rmtree(own / "support" / name)
    assert "expected 2 to 3 class folders with images, got 1 (a)" in refused(DataError, run, own)


def test_steps_are_those_asked_for_or_those_of_the_evaluation(run, own):
    assert predict(run, own).report.to_json()["inner_steps"] == 3
    more = predict(run, own, num_steps=6)
    assert more.report.to_json()["inner_steps"] == 6
    assert not np.allclose(more.probabilities, predict(run, own).probabilities)


def test_weights_are_the_best_by_meta_validation_where_there_are_some(run, own, tmp_path):
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    assert predict(copied, own).report.to_json()["weights"].startswith("last")
    tensors, primitives = load_checkpoint(copied, "last")
    zeros = {name: torch.zeros_like(value) for name, value in tensors.items()}
    save_checkpoint(copied, "best", zeros, primitives | {"iteration": 1})
    found = predict(copied, own)
    assert found.report.to_json()["weights"] == "best by meta-validation, iteration 1"
    assert not np.allclose(found.probabilities, predict(run, own).probabilities)


def test_inner_loop_that_diverges_is_told(run, own, monkeypatch):
    monkeypatch.setattr(
        SupportClassifier, "classify", lambda self, sx, sy, qx, **_: torch.full((len(qx), 3), torch.nan)
    )
    assert "fewer --steps" in refused(MamlError, run, own, num_steps=50)


# How it is computed ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A network of five outputs, as at the start of training, in float64."""
    from mamlcli.recipe.files import load_recipe

    path = class_folders(tmp_path_factory.mktemp("x") / "x", [f"c{index}" for index in range(8)])
    keys = [*TRAINING, "tasks.ways=5", "execution.dtype=float64", f"tasks.path={path}"]
    experiment = build(load_recipe("folder", keys)[1], splits=("train",))
    return SupportClassifier(experiment.objective(), experiment.initial_meta())


def images(num, seed=0):
    return torch.from_numpy(noise(num, 3, 12, 12, seed=seed)).double() / 255


def test_equal_shots_with_one_assignment_are_plain_maml(classifier):
    # Adapting with one weight for each class and the statistics of the support is `adapt` and one forward pass.
    from mamlcli.engine.inner_loop import adapt
    from mamlcli.engine.objective import example_loss

    x, y, query = images(10), torch.arange(5).repeat_interleave(2), images(1, seed=1)
    objective, meta = classifier.objective, classifier.meta
    fast = adapt(
        lambda fast: example_loss(apply_network(objective.network, {**meta.model, **fast}, x), y),
        meta.model,
        meta.transform,
        objective.inner,
    ).fast_weights
    network = with_statistics_of_first(objective.network, 10)
    expected = apply_network(network, {**meta.model, **fast}, torch.cat([x, query]))[10:].softmax(dim=-1)
    found = replace(classifier, num_assignments=1).classify(x, y, query)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)  # the weights are float32 fractions


def test_statistics_of_the_first_images_are_those_of_a_batch_of_them(classifier):
    network, params, x = classifier.objective.network, classifier.meta.model, images(7)
    changed = with_statistics_of_first(network, 4)
    found = apply_network(changed, params, x)
    torch.testing.assert_close(found[:4], apply_network(network, params, x[:4]))
    assert not torch.allclose(found[4:], apply_network(network, params, x)[4:])


def test_shifting_the_classes_along_the_outputs_changes_nothing(classifier):
    x, query = images(5), images(4, seed=1)
    found = classifier.classify(x, torch.arange(5), query)
    shifted = classifier.classify(x, (torch.arange(5) + 2) % 5, query)
    torch.testing.assert_close(shifted[:, (torch.arange(5) + 2) % 5], found)


def test_every_class_has_the_same_weight_whatever_its_shots():
    assert class_weights(torch.tensor([0, 1, 1, 1])).tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_uint8_query_images_are_scaled_as_in_training(classifier):
    x, query = images(5), torch.from_numpy(noise(4, 3, 12, 12, seed=1))
    expected = classifier.classify(x, torch.arange(5), query.double() / 255)
    torch.testing.assert_close(classifier.classify(x, torch.arange(5), query), expected)


def test_many_query_images_are_done_in_parts_with_the_same_result(classifier, monkeypatch):
    x, query, done = images(5), images(7, seed=1), []
    whole = classifier.classify(x, torch.arange(5), query)
    monkeypatch.setattr("mamlcli.deploy.classifier._QUERY_CHUNK", 3)
    parts = classifier.classify(x, torch.arange(5), query, advance=done.append)
    torch.testing.assert_close(parts, whole)
    assert done == [3, 3, 1]


def test_assignments_use_each_output_once_for_a_class():
    assert assignments(2, 3, 5).tolist() == [[0, 1], [1, 2], [2, 0]]
    assert assignments(2, 20, 5)[:, 0].tolist() == [0, 4, 8, 12, 16]


def test_images_are_left_out_of_classes_that_have_another():
    y = torch.tensor([0, 1, 1, 2, 2, 2])
    assert list(left_out_indices(y, 10)) == [1, 2, 3, 4, 5]
    assert list(left_out_indices(y, 2)) == [1, 3]


# How certain it is -----------------------------------------------------------------------------------------


def test_leave_one_out_uses_every_image_of_classes_with_another(run, own):
    found = predict(run, own).report.to_json()["leave_one_out"]
    assert (found["num_images"], found["num_candidates"]) == (5, 5)
    assert "Leave one out" in prediction_notes(predict(run, own).report)


def test_one_shot_has_no_leave_one_out_and_says_so(run, own):
    for path in [*(own / "support").rglob("[12].png")]:
        path.unlink()
    found = predict(run, own)
    report = found.report.to_json()
    assert report["leave_one_out"] is None
    assert "How certain: unknown" in prediction_notes(found.report)


def test_meta_test_of_the_run_stands_beside_the_result(run, own, tmp_path):
    found = predict(run, own)
    report = found.report.to_json()
    expected = json.loads((run.path / "evaluation.json").read_text())
    assert report["meta_test"] == {"protocol": expected["protocol"], "accuracy": expected["final"]["accuracy"]}
    notes = prediction_notes(found.report)
    assert "3-way 1-shot" in notes
    assert "not calibrated" in notes
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    (copied.path / "evaluation.json").write_text("damaged")
    assert predict(copied, own).report.to_json()["meta_test"] is None


# Images of every kind --------------------------------------------------------------------------------------


def rotated(image, path):
    exif = Image.Exif()
    exif[0x0112] = 3
    image.rotate(180).save(path, exif=exif, quality=100, subsampling=0)


def alpha(image, path):
    image = image.convert("RGBA")
    image.putalpha(255)
    image.save(path)


SAVED = {
    "png": lambda image, path: image.save(path),
    "jpg": lambda image, path: image.save(path, quality=100, subsampling=0),
    "bmp": lambda image, path: image.save(path),
    "tiff": lambda image, path: image.save(path),
    "webp": lambda image, path: image.save(path, lossless=True),
    "gif": lambda image, path: image.save(path),
    "palette.png": lambda image, path: image.quantize(256).save(path),
    "grey.png": lambda image, path: image.convert("L").save(path),
    "bit.png": lambda image, path: image.convert("1").save(path),
    "alpha.png": alpha,
    "deep.png": lambda image, path: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path),
    "cmyk.jpg": lambda image, path: image.convert("CMYK").save(path, quality=100),
    "rotated.jpg": rotated,
    "large.png": lambda image, path: image.resize((360, 360), Image.Resampling.NEAREST).save(path),
}


def test_every_mode_format_and_size_is_recognised(run, own, tmp_path):
    shutil.rmtree(own / "query")
    # Large patches of one grey: what no mode and no compression changes much.
    pages = {name: np.zeros((12, 12, 3), np.uint8) for name in "abc"}
    pages["a"][:6], pages["b"][:, :6], pages["c"][3:9, 3:9] = 255, 255, 255
    for name, page in pages.items():
        shutil.rmtree(own / "support" / name)
        save(own / "support" / name / "0.png", page)
        for suffix, write in SAVED.items():
            (own / "query" / name).mkdir(parents=True, exist_ok=True)
            write(Image.fromarray(page), own / "query" / name / f"q.{suffix}")
    report = predict(run, own, num_steps=10).report.to_json()
    assert report["skipped"] == []
    assert len(report["predictions"]) == 3 * len(SAVED)
    wrong = [row["image"] for row in report["predictions"] if row["predicted"] != row["true"]]
    assert wrong == []


# Bright and dark -------------------------------------------------------------------------------------------


@pytest.fixture
def pages(tmp_path):
    """Drawings on white paper in support, the same on black in query."""
    for index, name in enumerate("abc"):
        page = drawing(16, seed=90 + index)
        save(tmp_path / "support" / name / "0.png", page)
        save(tmp_path / "query" / name / "q.png", 255 - page)
    return tmp_path


def test_drawings_are_turned_to_the_ground_of_training_each_set_by_itself(runs, pages):
    found = predict(runs["drawings"], pages)
    assert (found.report.to_json()["support"]["inverted"], found.report.to_json()["query"]["inverted"]) == (True, False)
    assert found.report.to_json()["support"]["inversion"] == "bright ground here, dark ground in training"
    np.testing.assert_array_equal(found.support.images, found.query.images)
    assert found.report.to_json()["accuracy"]["mean"] == 1.0
    notes = prediction_notes(found.report)
    assert "support: inverted (bright ground here" in notes
    assert "query: not inverted (dark ground here" in notes


@pytest.mark.parametrize(("invert", "is_inverted"), [("yes", True), ("no", False)])
def test_inversion_is_as_asked(runs, pages, invert, is_inverted):
    report = predict(runs["drawings"], pages, invert=invert).report.to_json()
    assert (report["support"]["inverted"], report["query"]["inverted"]) == (is_inverted, is_inverted)


def test_grey_paper_of_a_photograph_is_bright_ground(runs, pages):
    for path in (pages / "support").rglob("*.png"):
        page = np.asarray(Image.open(path)).astype(float)
        save(path, (60 + page / 255 * 110).astype(np.uint8))
    assert predict(runs["drawings"], pages).report.to_json()["support"]["inverted"] is True


def test_drawings_of_both_grounds_in_one_folder_are_warned_of(runs, pages):
    save(pages / "support" / "a" / "other.png", 255 - drawing(16, seed=90))
    warnings = predict(runs["drawings"], pages).report.to_json()["warnings"]
    assert any("1 of 4 support images have another ground" in text and "other.png" in text for text in warnings)


def test_photographs_go_through_what_the_runs_own_did(run, own):
    report = predict(run, own).report.to_json()
    assert report["query"] | {"path": ""} == {
        "path": "",
        "num_images": 9,
        "inverted": False,
        "inversion": "as in training",
    }


def test_small_drawings_are_warned_of_and_cut_out_on_demand(runs, pages):
    for name in "abc":
        page = np.full((64, 80), 255, dtype=np.uint8)
        page[4:20, 50:66] = np.asarray(Image.open(pages / "support" / name / "0.png"))
        save(pages / "query" / name / "q.png", page)
    report = predict(runs["drawings"], pages).report.to_json()
    assert any("query drawings fill" in text and "--frame ink" in text for text in report["warnings"])
    cut = predict(runs["drawings"], pages, frame="ink")
    assert not [text for text in cut.report.to_json()["warnings"] if "fill" in text]
    assert np.abs(cut.query.images.astype(int) - cut.support.images).mean() < 6  # one pixel of shift at most
    assert cut.report.to_json()["accuracy"]["mean"] == 1.0


def test_blank_page_is_read_as_it_is(runs, pages):
    save(pages / "query" / "a" / "blank.png", np.full((20, 20), 255, np.uint8))
    assert len(predict(runs["drawings"], pages, frame="ink").report.to_json()["predictions"]) == 4


def test_ink_cannot_be_cut_out_for_a_run_of_photographs(run, own):
    assert "not trained on drawings" in refused(DataError, run, own, frame="ink")
    assert "one of file, ink" in refused(DataError, run, own, frame="inc")


# Bad input -------------------------------------------------------------------------------------------------


def skipped_of(report):
    return {os.path.basename(entry["file"]): entry["reason"] for entry in report["skipped"]}


def test_what_is_no_image_is_listed_and_the_rest_is_classified(run, own, monkeypatch):
    monkeypatch.setattr("mamlcli.tasks.images.reading.MAX_PIXELS", 1000)
    query = own / "query"
    (query / "a" / "text.png").write_text("no picture")
    (query / "a" / "notes.txt").write_text("notes")
    (query / "a" / "empty.png").write_bytes(b"")
    save(query / "a" / "huge.png", noise(40, 40))
    (query / "b" / "loop.png").symlink_to(query / "b" / "loop.png")
    (query / "c" / "up").symlink_to(query)
    (query / "up").symlink_to(own)
    (own / "support" / "loose.png").write_bytes((query / "a" / "q0.png").read_bytes())
    report = predict(run, own).report.to_json()
    assert len(report["predictions"]) == 9
    found = skipped_of(report)
    assert set(found) == {"text.png", "notes.txt", "empty.png", "huge.png", "loop.png", "up", "loose.png"}
    assert found["text.png"] == "a file of no known image format"
    assert "40 x 40 pixels, more than 1000" in found["huge.png"]
    assert "links are not followed" in found["up"]
    assert found["loose.png"] == "not in a class folder"


def test_image_of_20000_by_20000_pixels_is_listed_and_not_unfolded(run, own):
    # One-bit, all white: 50 megabytes of pixels in 50 kilobytes of file.
    Image.new("1", (20_000, 20_000), 1).save(own / "query" / "a" / "huge.png")
    report = predict(run, own).report.to_json()
    assert skipped_of(report)["huge.png"] == "a picture of more than 178956970 pixels"


def test_unreadable_file_is_listed(run, own, monkeypatch):
    opened = Image.open

    def forbidden(path, *args, **options):
        if "q1" in str(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr(Image, "open", forbidden)
    found = predict(run, own).report.to_json()
    assert len(found["predictions"]) == 6
    assert {entry["reason"] for entry in found["skipped"]} == {"PermissionError: [Errno 13] Permission denied"}


def test_class_without_a_usable_image_is_listed(run, own):
    for path in (own / "support" / "c").iterdir():
        path.write_text("no picture")
    report = predict(run, own).report.to_json()
    assert report["classes"] == ["a", "b"]
    assert skipped_of(report)["c"] == "a class without a usable image"
    assert any("no class of the support" in text and "c" in text for text in report["warnings"])


def test_empty_class_folder_is_listed(run, own):
    (own / "support" / "empty").mkdir()
    assert skipped_of(predict(run, own).report.to_json())["empty"] == "no image in it"


def test_nothing_to_classify_is_refused_with_the_first_reason(run, own):
    shutil.rmtree(own / "query")
    (own / "query").mkdir()
    assert "expected at least one image that can be read, got none" in refused(DataError, run, own)
    (own / "query" / "x.png").write_text("no picture")
    assert "x.png: a file of no known image format" in refused(DataError, run, own)


def test_places_that_are_not_there_are_refused(run, own):
    assert "got no such folder" in refused(DataError, run, own, support=own / "nothing")
    assert "got a file" in refused(DataError, run, own, support=own / "query" / "a" / "q0.png")
    assert "no such file or folder" in refused(DataError, run, own, query=own / "nothing")


def test_options_that_mean_nothing_are_refused(run, own):
    assert "one of auto, yes, no" in refused(DataError, run, own, invert="maybe")
    refused(DeviceError, run, own, device="cuda:99")


STRANGE = ("with space", "line\nend", "буква", "字", "x" * 60, "[red]")


def test_strange_names_are_kept_in_files_and_escaped_in_the_table(run, own, tmp_path):
    for name in STRANGE:
        save(own / "query" / "a" / f"{name}.png", noise(12, 12, 3))
    (own / "support" / "b").rename(own / "support" / "д\n[b]")
    found = predict(run, own)
    write_predictions(found.report, tmp_path / "out.json")
    names = [os.path.basename(row["image"]) for row in json.loads((tmp_path / "out.json").read_text())["predictions"]]
    assert {f"{name}.png" for name in STRANGE} <= set(names)
    text = shown_table(found.report, width=80)
    assert "\\nend.png" in text
    assert "[red].png" in text
    assert "д\\n[b]" in text
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are text there")
def test_name_that_is_no_text_can_be_written(run, own, tmp_path):
    bad = os.fsdecode(os.fsencode(own / "query" / "a") + b"/\xff.png")
    os.rename(own / "query" / "a" / "q0.png", bad)
    found = predict(run, own)
    for suffix in ("csv", "json"):
        write_predictions(found.report, tmp_path / f"out.{suffix}")
        assert "\\udcff.png" in (tmp_path / f"out.{suffix}").read_text().replace("\\\\", "\\")
    assert shown_table(found.report, width=80)


def test_name_composed_and_decomposed_is_one_class(run, own):
    (own / "support" / "a").rename(own / "support" / "e\u0301")
    (own / "query" / "a").rename(own / "query" / "\u00e9")
    assert predict(run, own).report.to_json()["accuracy"]["num_images"] == 9


def test_support_folder_as_query_is_warned_of(run, own):
    assert "the query folder is the support folder" in predict(run, own, query=own / "support").report.warnings[0]
    shutil.copytree(own / "support" / "a", own / "query" / "a", dirs_exist_ok=True)
    assert "1 of 10 query images are support images, too" in predict(run, own).report.to_json()["warnings"][0]


def test_query_folders_that_are_no_class_are_predicted_and_not_scored(run, own):
    (own / "query" / "a").rename(own / "query" / "z")
    report = predict(run, own).report.to_json()
    assert (len(report["predictions"]), report["accuracy"]["num_images"]) == (9, 6)
    assert any(text.endswith("not scored: z") for text in report["warnings"])


def test_thousands_of_files_are_all_predicted_and_the_table_says_how_many_it_leaves_out(run, own):
    content = (own / "query" / "a" / "q0.png").read_bytes()
    for index in range(2000):
        (own / "query" / "a" / f"{index}.png").write_bytes(content)
    done = []
    request = PredictionRequest(own / "support", own / "query")
    found = predict_run(run, request, on_progress=lambda what, n, total: done.append((what, n, total)))
    assert len(found.report.to_json()["predictions"]) == 2009
    assert ("classifying", 2009, 2009) in done
    assert "1959 more images: --out predictions.csv" in shown_table(found.report, width=80)


# The run ---------------------------------------------------------------------------------------------------


def test_preprocessing_is_stored_with_the_run(runs):
    stored = runs["drawings"].manifest["data"]["images"]
    assert stored["extent"] > 0.4
    assert {key: stored[key] for key in ("size", "channels", "invert", "fit", "resample", "border")} == {
        "size": 12,
        "channels": 1,
        "invert": True,
        "fit": "center-crop",
        "resample": "lanczos",
        "border": 0.0,
    }


def test_run_that_kept_no_preprocessing_needs_its_data(run, own, tmp_path):
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    data = {key: value for key, value in copied.manifest["data"].items() if key != "images"}
    copied.update_manifest({"data": data})
    assert "its data is not there" in refused(RunError, copied, own)
    class_folders(tmp_path / "again", [f"c{index}" for index in range(6)])
    text = (copied.path / "recipe.yaml").read_text()
    (copied.path / "recipe.yaml").write_text(text.replace(str(copied.recipe.tasks.path), str(tmp_path / "again")))
    assert predict(copied, own).report.to_json()["accuracy"]["num_images"] == 9


def test_run_of_synthetic_tasks_is_refused(own, tmp_path):
    run = train_tiny(tmp_path / "run", "sinusoid")
    assert "expected a run that was trained on images, got tasks.source=sinusoid" in refused(MamlError, run, own)


def test_run_without_weights_is_refused(run, own, tmp_path):
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    shutil.rmtree(copied.path / "checkpoints")
    assert "expected a checkpoint" in refused(RunError, copied, own)


@pytest.mark.parametrize("more", [("inner.algorithm=anil", "inner.joint_features=true"), ("inner.transform=kfo",)])
def test_every_algorithm_classifies(own, tmp_path, more):
    data = class_folders(tmp_path / "data", [f"c{index}" for index in range(6)])
    run = train_tiny(tmp_path / "run", "folder", f"tasks.path={data}", *TRAINING, *more)
    found = predict(run, own, num_steps=8)
    assert found.report.to_json()["accuracy"]["mean"] > 0.6


# Results ---------------------------------------------------------------------------------------------------


def shown_table(report, *, width):
    console = Console(width=width, no_color=True, force_terminal=False, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(prediction_table(report))
        return console.export_text()


def test_csv_has_a_line_for_each_image(run, own, tmp_path):
    import csv

    found = predict(run, own)
    write_predictions(found.report, tmp_path / "new" / "out.csv")
    with (tmp_path / "new" / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["image", "predicted", "true", "p(a)", "p(b)", "p(c)"]
    assert [row["image"] for row in rows] == [row["image"] for row in found.report.to_json()["predictions"]]
    written = np.array([[float(row[f"p({name})"]) for name in "abc"] for row in rows])
    np.testing.assert_allclose(written, found.probabilities, atol=1e-6)


def test_json_is_the_report(run, own, tmp_path):
    found = predict(run, own)
    report = found.report.to_json()
    write_predictions(found.report, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == report


@pytest.mark.parametrize("num_long", [0, 3])
def test_table_fits_80_columns(run, own, num_long):
    for name in "abc"[:num_long]:
        for part in ("support", "query"):
            (own / part / name).rename(own / part / (f"a class of a very long name, the one of {name}"))
    found = predict(run, own)
    report = found.report.to_json()
    text = shown_table(found.report, width=80)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for row in report["predictions"]:
        assert f"{row['probabilities'][row['predicted']]:.2f}" in text
    assert ("p1: a class of" in text) == bool(num_long)


def test_many_classes_show_the_best_three(run, own):
    classes = tuple(f"class {number}" for number in range(12))
    probabilities = {name: 0.9 if name == "class 3" else 0.1 / 11 for name in classes}
    row = ImagePrediction("q/x.png", "class 3", None, probabilities)
    report = replace(predict(run, own).report, classes=classes, predictions=(row,))
    text = shown_table(report, width=80)
    assert "class 3" in text
    assert "class 0 0.01, class 1 0.01" in text


@pytest.mark.parametrize(("name", "option"), [("x.txt", "out"), ("x", "out"), ("x.jpg", "sheet")])
def test_files_of_unknown_kind_are_refused_before_anything_is_computed(tmp_path, name, option):
    with pytest.raises(MamlError, match=f"--{option}.*expected a file name that ends in"):
        check_outputs(**{"out": None, "sheet": None} | {option: tmp_path / name})


def test_folder_as_file_is_refused(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(MamlError, match="expected a file, got a folder"):
        check_outputs(tmp_path / "x.csv", None)


def test_sheet_shows_every_image_under_its_prediction(run, own, tmp_path):
    found = predict(run, own)
    write_sheet(found, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    # 12 pixels enlarged 7 times, a frame of 3 and a gap of 4 on each cell: three columns of 94.
    assert pixels.shape[1] > 3 * 94
    flat = {tuple(image.reshape(-1)) for image in (*found.support.images, *found.query.images)}
    assert len(flat) == 6 + 9
    small = pixels[:, :, :]
    corners = [tuple(image[0, 0]) for image in found.query.images]
    assert all((small == corner).all(axis=-1).sum() >= 49 for corner in corners)
