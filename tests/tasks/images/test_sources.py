"""Importing: folders of images become packs, and what is not taken is listed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.class_splits import class_split
from mamlcli.tasks.images.packs import load_pack
from mamlcli.tasks.images.sources import SOURCES, check_name, default_name, import_source, pack_path
from tests.helpers.image_files import cifar_files, class_folders, drawing, noise, omniglot_folders, save
from tests.helpers.running import noise_pack


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "p.npz"


def reasons(report):
    return {os.path.basename(file): reason for file, reason in report.skipped}


def test_omniglot_classes_are_alphabet_and_character(root, target):
    report = import_source("omniglot", omniglot_folders(root), target)
    pack = load_pack(target)
    assert pack.class_names == (
        "Greek/character01",
        "Greek/character02",
        "Korean/character01",
        "Korean/character02",
    )
    assert pack.class_groups == ("Greek", "Greek", "Korean", "Korean")
    assert pack.images.shape == (12, 28, 28, 1)
    assert (report.num_images, report.num_classes, report.skipped) == (12, 4, ())


def test_omniglot_ink_becomes_bright_and_that_is_recorded(root, target):
    report = import_source("omniglot", omniglot_folders(root), target)
    pack = load_pack(target)
    assert report.preprocessing.invert
    assert pack.source.preprocessing == {
        "size": 28,
        "channels": 1,
        "invert": True,
        "fit": "center-crop",
        "resample": "lanczos",
    }
    assert pack.images[:, 0].max() < 60  # the border is paper
    assert pack.source.licence.startswith("MIT")


@pytest.mark.parametrize(("invert", "expected"), [("auto", True), ("yes", True), ("no", False)])
def test_invert_is_decided_once_for_all_and_can_be_overruled(root, target, invert, expected):
    omniglot_folders(root)
    save(root / "Greek" / "character01" / "99.png", 255 - drawing())  # one drawing against the rest
    assert import_source("omniglot", root, target, invert=invert).preprocessing.invert is expected


def test_mini_imagenet_takes_its_classes_and_lists_the_others(root, target):
    class_folders(root, ["n01532829", "n01558993", "n99999999"], side=100)
    report = import_source("mini-imagenet", root, target)
    assert load_pack(target).images.shape == (6, 84, 84, 3)
    assert reasons(report) == {"n99999999": "not a class of mini-ImageNet"}
    assert report.preprocessing.fit == "stretch"


def test_folder_of_class_folders_is_packed_at_the_size_of_its_pictures(root, target):
    report = import_source("folder", class_folders(root, ["b", "a", "c"], side=12), target)
    pack = load_pack(target)
    assert pack.class_names == ("a", "b", "c")
    assert pack.images.shape == (9, 12, 12, 3)
    assert np.bincount(pack.labels).tolist() == [3, 3, 3]
    assert "class_splits" not in pack.source.record
    assert not report.preprocessing.invert


def test_large_pictures_are_packed_at_84_pixels(root, target):
    import_source("folder", class_folders(root, ["a"], side=100), target)
    assert load_pack(target).images.shape[1:] == (84, 84, 3)


def test_size_and_channels_can_be_chosen(root, target):
    import_source("folder", class_folders(root, ["a"]), target, size=7, channels=1)
    assert load_pack(target).images.shape == (3, 7, 7, 1)


def test_train_val_and_test_folders_are_recorded_as_splits(root, target):
    class_folders(root / "train", ["a", "b"])
    class_folders(root / "val", ["c"])
    class_folders(root / "test", ["d"])
    import_source("folder", root, target)
    splits = class_split("folder", load_pack(target))
    assert splits == {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}


def test_class_without_a_usable_image_is_listed_and_left_out(root, target):
    class_folders(root / "train", ["a", "b"])
    class_folders(root / "test", ["c"])
    (root / "train" / "empty").mkdir()
    (root / "train" / "bad").mkdir()
    (root / "train" / "bad" / "1.png").write_text("not a picture")
    report = import_source("folder", root, target)
    pack = load_pack(target)
    assert pack.class_names == ("a", "b", "c")
    assert pack.source.class_splits["train"] == ("a", "b")
    assert reasons(report)["empty"] == reasons(report)["bad"] == "a class without a usable image"


@pytest.mark.parametrize("source", ["omniglot", "mini-imagenet", "folder"])
def test_folder_without_classes_is_refused_and_no_pack_is_made(root, target, source):
    save(root / "picture.png", noise(5, 5))
    with pytest.raises(DataError, match="no class folder"):
        import_source(source, root, target)
    assert not target.exists()


def test_pack_that_is_there_is_replaced_only_by_force(root, target):
    class_folders(root, ["a"])
    import_source("folder", root, target)
    class_folders(root, ["b"])
    with pytest.raises(DataError, match="--force"):
        import_source("folder", root, target)
    assert load_pack(target).class_names == ("a",)
    assert import_source("folder", root, target, force=True).num_classes == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"size": 0}, "--size"), ({"channels": 2}, "--channels"), ({"invert": "maybe"}, "--invert")],
)
def test_options_out_of_range_are_refused(root, target, options, expected):
    with pytest.raises(DataError, match=expected):
        import_source("folder", class_folders(root, ["a"]), target, **options)


def test_cifar_takes_no_image_options(root, target):
    with pytest.raises(DataError, match="no --size"):
        import_source("cifar-fs", cifar_files(root), target, size=16)


def test_class_names_that_a_source_does_not_have_are_warned_of(root, target):
    omniglot_folders(root, alphabets=["Greek", "Klingon"])
    (note,) = import_source("omniglot", root, target).notes
    assert note.startswith("2 classes are none of omniglot: Klingon/character01, Klingon/character02. Its class names")
    assert import_source("folder", class_folders(root / "x", ["a", "b"]), target, force=True).notes == ()


def test_skipped_files_of_an_archive_are_named_below_it(root, target, tmp_path):
    class_folders(root, ["a", "b"])
    (root / "a" / "notes.txt").write_text("x")
    archive = Path(shutil.make_archive(str(tmp_path / "birds"), "zip", root))
    ((file, _),) = import_source("folder", archive, target).skipped
    assert file == f"{archive}/a/notes.txt"
    assert [path.name for path in target.parent.iterdir()] == ["p.npz"]


def test_the_name_of_a_pack_is_the_one_that_was_typed(tmp_path, monkeypatch):
    class_folders(tmp_path / "2024_export", ["a"])
    (tmp_path / "pets").symlink_to(tmp_path / "2024_export", target_is_directory=True)
    assert default_name("folder", tmp_path / "pets") == "pets"
    assert default_name("folder", tmp_path / "birds.v2.tar.gz") == "birds.v2"
    assert default_name("folder", tmp_path / "mine.pkl") == "mine"
    assert default_name("folder", tmp_path / "caf\u0065\u0301") == "caf\u00e9"
    monkeypatch.chdir(tmp_path / "2024_export")
    assert default_name("folder", Path()) == "2024_export"


def test_another_pack_is_never_replaced_unnamed(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path))
    target = tmp_path / "my-pets.npz"
    noise_pack(target, ["a"], num_images=2, shape=(4, 4, 3), name="folder")
    assert pack_path("folder", tmp_path / "my-pets", force=True) == target
    with pytest.raises(DataError, match="--name my-pets --force"):
        pack_path("folder", tmp_path / "my pets", force=True)
    assert pack_path("folder", tmp_path / "my pets", name="my-pets", force=True) == target
    noise_pack(target, ["a"], num_images=2, shape=(4, 4, 3), name="omniglot")
    with pytest.raises(DataError, match="a pack of 2 images of 1 classes"):
        pack_path("folder", tmp_path / "my-pets", force=True)


def test_source_that_cannot_be_imported_is_refused(root, target):
    with pytest.raises(DataError, match="drawn when used"):
        import_source("glyphs", root, target)
    with pytest.raises(DataError, match="Did you mean 'omniglot'"):
        import_source("omniglot-py", root, target)


def test_progress_counts_every_file(root, target):
    seen = []
    import_source("folder", class_folders(root, ["a", "b"]), target, progress=lambda *counts: seen.append(counts))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_folder_pack_is_named_after_its_folder(tmp_path):
    assert default_name("folder", tmp_path / "my photos (2)") == "my-photos-2"
    assert default_name("omniglot", tmp_path / "x") == "omniglot"


def test_pack_cannot_take_the_name_of_another_source():
    assert check_name("omniglot", "omniglot") == "omniglot"
    with pytest.raises(DataError, match="no other source"):
        check_name("omniglot", "folder")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x"])
def test_pack_name_is_a_plain_file_name(name):
    with pytest.raises(DataError, match="--name"):
        check_name(name, "folder")


def test_every_source_says_how_to_get_it():
    assert all(facts.get for facts in SOURCES.values())
