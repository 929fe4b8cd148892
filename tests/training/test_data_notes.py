"""What a person is told of the images that a run is trained on."""

import numpy as np

from mamlcli.recipe.files import load_recipe
from mamlcli.training.data_notes import data_notes
from tests.helpers.image_files import class_folders, save
from tests.helpers.running import built


def notes_of(folder, *overrides, splits=("train", "validation", "test"), is_recorded=True):
    keys = (f"tasks.path={folder}", "tasks.ways=2", "tasks.queries=5", "tasks.image_size=8", "validation.every=200")
    experiment = built("folder", *keys, *overrides, splits=splits)
    return "\n".join(data_notes(experiment.recipe, experiment.data, is_recorded=is_recorded))


def test_splits_small_classes_and_unreadable_files_are_told(tmp_path):
    class_folders(tmp_path, [*"abcdef", "F"], num_images=6)
    save(tmp_path / "small" / "1.png", np.zeros((8, 8), dtype=np.uint8))
    (tmp_path / "a" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "b" / "empty.jpg").touch()
    notes = notes_of(tmp_path)
    assert "43 images of 8 classes\n" in notes
    for count in ("3 in train: ", "2 in validation: ", "2 in test: "):
        assert f"\n  {count}" in notes
    assert "left out, too few images for a task: small (1) (tasks.small_classes=refuse stops instead)" in notes
    assert f"skipped {tmp_path}/b/empty.jpg: an empty file" in notes
    assert f"skipped {tmp_path}/a/cut.jpg: " in notes
    assert "capital letters alone are classes of their own: F and f" in notes


def test_the_first_classes_of_each_split_are_named(tmp_path):
    for split, names in (("train", "abcdefg"), ("val", "hi"), ("test", ["j", "k\nl"])):
        class_folders(tmp_path / split, names, num_images=6)
    first, *splits = notes_of(tmp_path).splitlines()
    assert first == "66 images of 11 classes (all names: manifest.json)"
    assert splits == ["  7 in train: a, b, c, d, e and 2 more", "  2 in validation: h, i", "  2 in test: j, k\\nl"]


def test_a_dry_run_points_to_no_manifest(tmp_path):
    class_folders(tmp_path, [f"class{number:02d}" for number in range(20)], num_images=6)
    for number in range(9):
        (tmp_path / "class00" / f"x{number}.jpg").touch()
    notes = notes_of(tmp_path, is_recorded=False)
    assert "120 images of 20 classes\n" in notes
    assert "skipped 4 more" in notes
    assert "manifest" not in notes


def test_many_skipped_files_are_counted(tmp_path):
    class_folders(tmp_path, "abcdef", num_images=6)
    for number in range(9):
        (tmp_path / "a" / f"x{number}.jpg").touch()
    assert "skipped 4 more, all listed in manifest.json" in notes_of(tmp_path)


def test_validation_that_is_taken_of_train_is_told(tmp_path):
    for split, names in (("train", "abcdef"), ("test", "gh")):
        class_folders(tmp_path / split, names, num_images=6)
    assert "no folder val: 2 of the classes of train are for validation" in notes_of(tmp_path)


def test_score_on_the_images_of_training_is_told(tmp_path):
    class_folders(tmp_path, "abc", num_images=6)
    keys = ("validation.every=null", "evaluation.split=train")
    assert "the images that are scored are those that were trained on" in notes_of(tmp_path, *keys, splits=("train",))


def test_scaling_of_12_bit_images_is_told(tmp_path):
    for name in "abcdef":
        for number in range(6):
            save(tmp_path / name / f"{number}.png", np.full((8, 8), 4000, dtype=np.uint16))
    assert "12 bits: 4095 is taken as white" in notes_of(tmp_path)


def test_nothing_is_told_of_other_sources():
    experiment = built("sinusoid", splits=("train",))
    assert data_notes(experiment.recipe, experiment.data) == []
    assert data_notes(load_recipe("folder", [])[1], {}) == []
