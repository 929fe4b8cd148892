"""A user's own images: whatever they are, they are classified as the run was trained, or listed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mamlcli.common.errors import DataError, DeviceError, MamlError, RunError
from mamlcli.deploy.classifier import SupportClassifier
from mamlcli.deploy.prediction import predict_run
from mamlcli.deploy.report import PredictionRequest
from mamlcli.deploy.tables import prediction_notes
from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.images import reading
from mamlcli.training.checkpoints import load_checkpoint, save_checkpoint
from tests.helpers.image_files import class_folders, noise, save
from tests.helpers.image_modes import SAVED
from tests.helpers.predictions import TRAINING, predict, refused, shown_table, skipped_of
from tests.helpers.running import train_tiny

# What is predicted -----------------------------------------------------------------------------------------


def test_images_like_the_support_are_given_its_classes_and_accuracy_is_counted(run, folders):
    predictions = predict(run, folders)
    assert predictions.report.to_json()["classes"] == ["a", "b", "c"]
    assert predictions.report.to_json()["support"]["shots"] == {"a": 1, "b": 2, "c": 3}
    assert predictions.report.to_json()["accuracy"]["num_images"] == 9
    right = [row["predicted"] == row["true"] for row in predictions.report.to_json()["predictions"]]
    assert predictions.report.to_json()["accuracy"]["num_right"] == sum(right) >= 8
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1.0, rtol=1e-5)


def test_folder_of_images_without_classes_has_no_accuracy(run, folders):
    for index, path in enumerate(sorted((folders / "query").rglob("*.png"))):
        path.rename(folders / "query" / f"{index}.png")
    for name in "abc":
        (folders / "query" / name).rmdir()
    report = predict(run, folders).report.to_json()
    assert len(report["predictions"]) == 9
    assert report["accuracy"] is None
    assert {row["true"] for row in report["predictions"]} == {None}


def test_prediction_of_an_image_does_not_depend_on_the_others(run, folders):
    together = {row["image"]: row["probabilities"] for row in predict(run, folders).report.to_json()["predictions"]}
    for name in ("a", "c"):
        path = folders / "query" / name / "q1.png"
        alone = predict(run, folders, query=path).report.to_json()
        assert alone["depends_on_other_queries"] is False
        assert [row["image"] for row in alone["predictions"]] == [str(path)]
        assert alone["predictions"][0]["probabilities"] == pytest.approx(together[str(path)], abs=1e-5)


def test_joint_batch_norm_depends_on_the_other_query_images_and_says_so(run, folders):
    predictions = predict(run, folders, is_joint=True)
    report = predictions.report.to_json()
    assert report["depends_on_other_queries"] is True
    assert "depends on all query images" in " ".join(prediction_notes(predictions.report).split())
    alone = predict(run, folders, is_joint=True, query=folders / "query" / "a" / "q1.png").report.to_json()
    assert alone["depends_on_other_queries"] is False
    of_both = [row for row in report["predictions"] if row["image"].endswith("a/q1.png")]
    assert of_both[0]["probabilities"] != pytest.approx(alone["predictions"][0]["probabilities"], abs=1e-5)


def test_network_without_batch_statistics_says_nothing_of_them(runs, folders):
    predictions = predict(runs["group"], folders, is_joint=True)
    report = predictions.report.to_json()
    assert report["depends_on_other_queries"] is False
    assert "batch norm" not in prediction_notes(predictions.report)


def test_too_many_images_for_one_batch_are_refused(run, folders, monkeypatch):
    monkeypatch.setattr("mamlcli.deploy.prediction.MAX_JOINT_IMAGES", 8)
    assert "at most 8 images with --joint, got 9" in refused(DataError, run, folders, is_joint=True)


def test_fewer_classes_than_the_head_share_the_probability_among_themselves(run, folders):
    shutil.rmtree(folders / "support" / "c")
    shutil.rmtree(folders / "query" / "c")
    predictions = predict(run, folders)
    report = predictions.report.to_json()
    assert all(sum(row["probabilities"].values()) == pytest.approx(1.0) for row in report["predictions"])
    assert all(set(row["probabilities"]) == {"a", "b"} for row in report["predictions"])
    assert "over 2 of the head's 3 outputs" in prediction_notes(predictions.report)


def test_more_classes_than_the_head_are_refused_with_what_to_do(run, folders):
    save(folders / "support" / "d" / "0.png", noise(12, 12, 3))
    message = refused(DataError, run, folders)
    assert "expected 2 to 3 class folders, the outputs of the run's head, got 4: a, b, c, d" in message
    assert "tasks.ways=4" in message


def test_one_class_is_refused(run, folders):
    for name in "bc":
        shutil.rmtree(folders / "support" / name)
    assert "expected 2 to 3 class folders with images, got 1 (a)" in refused(DataError, run, folders)


def test_steps_are_those_asked_for_or_those_of_the_evaluation(run, folders):
    assert predict(run, folders).report.to_json()["inner_steps"] == 3
    more = predict(run, folders, num_steps=6)
    assert more.report.to_json()["inner_steps"] == 6
    assert not np.allclose(more.probabilities, predict(run, folders).probabilities)


def test_weights_are_the_best_by_meta_validation_where_there_are_some(run, folders, tmp_path):
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    assert predict(copied, folders).report.to_json()["weights"].startswith("last")
    tensors, primitives = load_checkpoint(copied, "last")
    zeros = {name: torch.zeros_like(value) for name, value in tensors.items()}
    save_checkpoint(copied, "best", zeros, primitives | {"iteration": 1})
    predictions = predict(copied, folders)
    assert predictions.report.to_json()["weights"] == "best by meta-validation, iteration 1"
    assert not np.allclose(predictions.probabilities, predict(run, folders).probabilities)


def test_inner_loop_that_diverges_is_told(run, folders, monkeypatch):
    monkeypatch.setattr(
        SupportClassifier, "classify", lambda self, sx, sy, qx, **_: torch.full((len(qx), 3), torch.nan)
    )
    assert "fewer --steps" in refused(MamlError, run, folders, num_steps=50)


# How certain it is -----------------------------------------------------------------------------------------


def test_leave_one_out_uses_every_image_of_classes_with_another(run, folders):
    left_out = predict(run, folders).report.to_json()["leave_one_out"]
    assert (left_out["num_images"], left_out["num_candidates"]) == (5, 5)
    assert "Leave one out" in prediction_notes(predict(run, folders).report)


def test_one_shot_has_no_leave_one_out_and_says_so(run, folders):
    for path in [*(folders / "support").rglob("[12].png")]:
        path.unlink()
    predictions = predict(run, folders)
    report = predictions.report.to_json()
    assert report["leave_one_out"] is None
    assert "How certain: unknown" in prediction_notes(predictions.report)


# Images of every kind --------------------------------------------------------------------------------------


def test_every_mode_format_and_size_is_recognised(run, folders, tmp_path):
    shutil.rmtree(folders / "query")
    # Large patches of one grey: what no mode and no compression changes much.
    pages = {name: np.zeros((12, 12, 3), np.uint8) for name in "abc"}
    pages["a"][:6], pages["b"][:, :6], pages["c"][3:9, 3:9] = 255, 255, 255
    for name, page in pages.items():
        shutil.rmtree(folders / "support" / name)
        save(folders / "support" / name / "0.png", page)
        for suffix, write in SAVED.items():
            (folders / "query" / name).mkdir(parents=True, exist_ok=True)
            write(Image.fromarray(page), folders / "query" / name / f"q.{suffix}")
    report = predict(run, folders, num_steps=10).report.to_json()
    assert report["skipped"] == []
    assert len(report["predictions"]) == 3 * len(SAVED)
    wrong = [row["image"] for row in report["predictions"] if row["predicted"] != row["true"]]
    assert wrong == []


# Bright and dark -------------------------------------------------------------------------------------------


def test_drawings_are_turned_to_the_ground_of_training_each_set_by_itself(runs, pages):
    predictions = predict(runs["drawings"], pages)
    assert [images.inverted for images in (predictions.report.support, predictions.report.query)] == [True, False]
    assert predictions.report.to_json()["support"]["inversion"] == "bright ground here, dark ground in training"
    np.testing.assert_array_equal(predictions.support.images, predictions.query.images)
    assert predictions.report.to_json()["accuracy"]["mean"] == 1.0
    notes = prediction_notes(predictions.report)
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


def test_photographs_go_through_what_the_runs_own_did(run, folders):
    report = predict(run, folders).report.to_json()
    assert report["query"] | {"path": ""} == {
        "path": "",
        "num_images": 9,
        "inverted": False,
        "inversion": "as in training",
    }


def test_blank_page_is_read_as_it_is(runs, pages):
    save(pages / "query" / "a" / "blank.png", np.full((20, 20), 255, np.uint8))
    assert len(predict(runs["drawings"], pages, frame="ink").report.to_json()["predictions"]) == 4


def test_ink_cannot_be_cut_out_for_a_run_of_photographs(run, folders):
    assert "not trained on drawings" in refused(DataError, run, folders, frame="ink")
    assert "one of file, ink" in refused(DataError, run, folders, frame="inc")


# Bad input -------------------------------------------------------------------------------------------------


def test_what_is_no_image_is_listed_and_the_rest_is_classified(run, folders, monkeypatch):
    monkeypatch.setattr("mamlcli.tasks.images.decoding.MAX_PIXELS", 1000)
    query = folders / "query"
    (query / "a" / "text.png").write_text("no picture")
    (query / "a" / "notes.txt").write_text("notes")
    (query / "a" / "empty.png").write_bytes(b"")
    save(query / "a" / "huge.png", noise(40, 40))
    (query / "b" / "loop.png").symlink_to(query / "b" / "loop.png")
    (query / "c" / "up").symlink_to(query)
    (query / "up").symlink_to(folders)
    (folders / "support" / "loose.png").write_bytes((query / "a" / "q0.png").read_bytes())
    report = predict(run, folders).report.to_json()
    assert len(report["predictions"]) == 9
    reasons = skipped_of(report)
    assert set(reasons) == {"text.png", "notes.txt", "empty.png", "huge.png", "loop.png", "up", "loose.png"}
    assert reasons["text.png"] == "a file of no known image format"
    assert "40 x 40 pixels, more than 1000" in reasons["huge.png"]
    assert "links are not followed" in reasons["up"]
    assert reasons["loose.png"] == "not in a class folder"


def test_image_of_20000_by_20000_pixels_is_listed_and_not_unfolded(run, folders):
    # One-bit, all white: 50 megabytes of pixels in 50 kilobytes of file.
    Image.new("1", (20_000, 20_000), 1).save(folders / "query" / "a" / "huge.png")
    report = predict(run, folders).report.to_json()
    assert skipped_of(report)["huge.png"] == "a picture of more than 178956970 pixels"


def test_unreadable_file_is_listed(run, folders, monkeypatch):
    opened = reading.opened_image

    def forbidden(path, *args, **options):
        if "q1" in str(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr(reading, "opened_image", forbidden)
    report = predict(run, folders).report.to_json()
    assert len(report["predictions"]) == 6
    assert {entry["reason"] for entry in report["skipped"]} == {"PermissionError: [Errno 13] Permission denied"}


def test_class_without_a_usable_image_is_listed(run, folders):
    for path in (folders / "support" / "c").iterdir():
        path.write_text("no picture")
    report = predict(run, folders).report.to_json()
    assert report["classes"] == ["a", "b"]
    assert skipped_of(report)["c"] == "a class without a usable image"
    assert any("no class of the support" in text and "c" in text for text in report["warnings"])


def test_empty_class_folder_is_listed(run, folders):
    (folders / "support" / "empty").mkdir()
    assert skipped_of(predict(run, folders).report.to_json())["empty"] == "no image in it"


def test_nothing_to_classify_is_refused_with_the_first_reason(run, folders):
    shutil.rmtree(folders / "query")
    (folders / "query").mkdir()
    assert "expected at least one image that can be read, got none" in refused(DataError, run, folders)
    (folders / "query" / "x.png").write_text("no picture")
    assert "x.png: a file of no known image format" in refused(DataError, run, folders)


def test_places_that_are_not_there_are_refused(run, folders):
    assert "got no such folder" in refused(DataError, run, folders, support=folders / "nothing")
    assert "got a file" in refused(DataError, run, folders, support=folders / "query" / "a" / "q0.png")
    assert "no such file or folder" in refused(DataError, run, folders, query=folders / "nothing")


def test_options_that_mean_nothing_are_refused(run, folders):
    assert "one of auto, yes, no" in refused(DataError, run, folders, invert="maybe")
    refused(DeviceError, run, folders, device="cuda:99")


def test_name_composed_and_decomposed_is_one_class(run, folders):
    (folders / "support" / "a").rename(folders / "support" / "e\u0301")
    (folders / "query" / "a").rename(folders / "query" / "\u00e9")
    assert predict(run, folders).report.to_json()["accuracy"]["num_images"] == 9


def test_thousands_of_files_are_all_predicted_and_the_table_says_how_many_it_leaves_out(run, folders):
    content = (folders / "query" / "a" / "q0.png").read_bytes()
    for index in range(2000):
        (folders / "query" / "a" / f"{index}.png").write_bytes(content)
    done = []
    request = PredictionRequest(folders / "support", folders / "query")
    predictions = predict_run(run, request, on_progress=lambda what, n, total: done.append((what, n, total)))
    assert len(predictions.report.to_json()["predictions"]) == 2009
    assert ("classifying", 2009, 2009) in done
    assert "1959 more images: --out predictions.csv" in shown_table(predictions.report, width=80)


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


def test_run_that_kept_no_preprocessing_needs_its_data(run, folders, tmp_path):
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    data = {key: value for key, value in copied.manifest["data"].items() if key != "images"}
    copied.update_manifest({"data": data})
    assert "its data is not there" in refused(RunError, copied, folders)
    class_folders(tmp_path / "again", [f"c{index}" for index in range(6)])
    elsewhere = predict(copied, folders, places=(f"tasks.path={tmp_path / 'again'}",))
    assert elsewhere.report.to_json()["accuracy"]["num_images"] == 9
    text = (copied.path / "recipe.yaml").read_text()
    (copied.path / "recipe.yaml").write_text(text.replace(str(copied.recipe.tasks.path), str(tmp_path / "again")))
    assert predict(copied, folders).report.to_json()["accuracy"]["num_images"] == 9


def test_run_of_synthetic_tasks_is_refused(folders, tmp_path):
    run = train_tiny(tmp_path / "run", "sinusoid")
    words = "expected a run that was trained on images of a pack or a folder, got tasks.source=sinusoid"
    assert words in refused(MamlError, run, folders)


def test_run_without_weights_is_refused(run, folders, tmp_path):
    copied = RunDirectory.open(shutil.copytree(run.path, tmp_path / "copy"))
    shutil.rmtree(copied.path / "checkpoints")
    assert "expected a checkpoint" in refused(RunError, copied, folders)


@pytest.mark.parametrize(
    "more",
    [
        ("inner.algorithm=anil", "inner.joint_features=true"),
        ("inner.algorithm=boil",),
        ("inner.transform=kfo",),
        ("inner.head=zero", "inner.transform=kfo"),
        ("inner.head=shared",),
    ],
)
def test_every_algorithm_classifies(folders, tmp_path, more):
    data = class_folders(tmp_path / "data", [f"c{index}" for index in range(6)])
    run = train_tiny(tmp_path / "run", "folder", f"tasks.path={data}", *TRAINING, *more)
    predictions = predict(run, folders, num_steps=8)
    assert predictions.report.to_json()["accuracy"]["mean"] > 0.6


# More classes than tasks.ways ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zero_head(tmp_path_factory):
    """A run of three ways whose output layer starts at zero."""
    root = tmp_path_factory.mktemp("zero")
    data = class_folders(root / "data", [f"c{index}" for index in range(6)])
    return train_tiny(root / "run", "folder", f"tasks.path={data}", *TRAINING, "inner.head=zero")


def own_images(tmp_path, num_classes):
    names = [f"own{index}" for index in range(num_classes)]
    class_folders(tmp_path / "support", names, num_images=2)
    class_folders(tmp_path / "query", names, num_images=2)
    return tmp_path


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_head_without_ways_of_its_own_is_for_as_many_classes_as_there_are(zero_head, tmp_path, num_classes):
    predictions = predict(zero_head, own_images(tmp_path, num_classes), num_steps=30)
    report = predictions.report
    assert predictions.probabilities.shape == (2 * num_classes, num_classes)
    assert (report.num_outputs, report.num_assignments) == (num_classes, 1)
    assert report.accuracy.mean > 0.6  # the query images are those of the support set
    assert "all outputs start the same" in prediction_notes(report)


def test_transform_with_the_ways_in_its_shape_refuses_more_classes(tmp_path):
    data = class_folders(tmp_path / "data", [f"c{index}" for index in range(6)])
    words = (*TRAINING, "inner.head=zero", "inner.transform=kfo")
    run = train_tiny(tmp_path / "run", "folder", f"tasks.path={data}", *words)
    message = refused(DataError, run, own_images(tmp_path, 4))
    assert "expected 2 to 3 class folders" in message
    assert "kfo has the 3 ways in the shape of head.0.weight/left" in message


def test_one_class_is_refused_with_a_head_for_any_number(zero_head, tmp_path):
    assert "expected 2 or more class folders with images, got 1" in refused(
        DataError, zero_head, own_images(tmp_path, 1)
    )
