"""Importing: folders of images become packs, and what is not taken is listed."""

import os

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.class_splits import class_split
from mamlcli.tasks.images.packs import load_pack
from mamlcli.tasks.images.sources import SOURCES, check_name, default_name, import_source
from tests.helpers.image_files import class_folders, drawing, noise, omniglot_folders, save


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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


@pytest.mark.parametrize("above", ["", "omniglot-py"])
def test_omniglot_official_layout_joins_background_and_evaluation(root, target, above):
    omniglot_folders(root / above / "images_background", alphabets=["Greek"])
    omniglot_folders(root / above / "images_evaluation" / "images_evaluation", alphabets=["ULOG"])
    report = import_source("omniglot", root, target)
    assert report.num_classes == 4
    assert load_pack(target).class_groups == ("Greek", "Greek", "ULOG", "ULOG")


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


def test_mini_imagenet_is_found_below_train_val_and_test(root, target):
    class_folders(root / "train", ["n01532829"])
    class_folders(root / "val", ["n01855672"])
    class_folders(root / "test", ["n01930112"])
    import_source("mini-imagenet", root, target)
    pack = load_pack(target)
    assert pack.class_names == ("n01532829", "n01855672", "n01930112")
    assert class_split("mini-imagenet", pack)["train"][0] == "n01532829"


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


def test_class_that_is_in_two_splits_is_refused(root, target):
    class_folders(root / "train", ["a", "b"])
    class_folders(root / "test", ["a"])
    with pytest.raises(DataError, match="no other split has, got 'a'"):
        import_source("folder", root, target)


def test_bad_files_are_listed_and_the_others_taken(root, target):
    class_folders(root, ["a", "b"])
    (root / "a" / "text.png").write_text("not a picture")
    (root / "a" / "empty.png").touch()
    (root / "a" / "notes.txt").write_text("notes")
    (root / "stray.png").write_bytes((root / "a" / "00.png").read_bytes())
    (root / "b" / "nowhere.png").symlink_to(root / "missing.png")
    (root / "b" / ".DS_Store").touch()
    report = import_source("folder", root, target)
    assert report.num_images == 6
    assert reasons(report) == {
        "stray.png": "not in a class folder",
        "text.png": "a file of no known image format",
        "empty.png": "a file of no known image format",
        "notes.txt": "not an image by its name (.txt)",
        "nowhere.png": "no regular file, or a link to nothing",
    }


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


def test_links_that_loop_are_listed_and_not_followed(root, target):
    class_folders(root, ["a", "b"])
    (root / "a" / "loop").symlink_to(root)
    (root / "everything").symlink_to(root)
    report = import_source("folder", root, target)
    assert (report.num_images, set(reasons(report))) == (6, {"loop", "everything"})


def test_linked_image_files_are_read(root, target):
    class_folders(root, ["a"])
    (root / "a" / "link.png").symlink_to(root / "a" / "00.png")
    assert import_source("folder", root, target).num_images == 4


def test_named_pipe_is_listed_and_not_waited_for(root, target):
    class_folders(root, ["a"])
    os.mkfifo(root / "a" / "pipe.png")
    assert "pipe.png" in reasons(import_source("folder", root, target))


def test_images_in_folders_below_a_class_belong_to_it(root, target):
    class_folders(root, ["a"])
    save(root / "a" / "more" / "x.png", noise(12, 12, 3))
    assert import_source("folder", root, target).num_images == 4


@pytest.mark.parametrize("source", ["omniglot", "mini-imagenet", "folder"])
def test_folder_without_classes_is_refused_and_no_pack_is_made(root, target, source):
    save(root / "picture.png", noise(5, 5))
    with pytest.raises(DataError, match="no class folder"):
        import_source(source, root, target)
    assert not target.exists()


def test_folder_of_unreadable_images_is_refused(root, target):
    (root / "a").mkdir()
    (root / "a" / "1.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"none of 1.*1\.png: a file of no known image format"):
        import_source("folder", root, target)


def test_path_that_is_no_folder_is_refused(root, target):
    with pytest.raises(DataError, match="no such folder"):
        import_source("folder", root / "missing", target)
    (root / "file").touch()
    with pytest.raises(DataError, match="got a file"):
        import_source("folder", root / "file", target)


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
        import_source("cifar-fs", root, target, size=16)


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
