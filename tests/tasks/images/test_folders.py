"""Folders are listed through links, never in a circle and never twice; what systems leave there is said."""

import os

import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.folders import (
    Folder,
    files_and_folders,
    files_of_classes,
    image_files,
    open_folder,
    subfolders,
    telling_first,
)
from tests.helpers.image_files import noise, save
from tests.helpers.tree_layouts import images

SYSTEM_NAMES = [
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    "__MACOSX",
    "__pycache__",
    ".ipynb_checkpoints",
    ".Trashes",
    ".git",
    "lost+found",
    "~snapshot",
    "@Recycle",
    ".DS_Store",
    "._0.jpg",
    "Thumbs.db",
    "desktop.ini",
    "ehthumbs.db",
    "Icon\r",
]


def names(skipped):
    return {os.path.basename(path): reason for path, reason in skipped}


@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_what_systems_leave_is_left_out_with_its_reason_be_it_a_file_or_a_folder(tmp_path, name):
    images("a/cat", f"a/{name}")(tmp_path)
    images("b/cat")(tmp_path)
    save(tmp_path / "b" / "x.png", noise(8, 8)).rename(tmp_path / "b" / name)
    for folder in (Folder(tmp_path / "a"), Folder(tmp_path / "b")):
        assert [below.name for below in folder.folders] == ["cat"]
        assert list(names(folder.left_out)) == [name]
        assert folder.left_out[0][1].startswith(("left by", "hidden"))


def test_names_that_only_look_like_a_systems_are_kept(tmp_path):
    images("@home", "#1", "$5", "recycle", "~x", "_x")(tmp_path)
    assert len(Folder(tmp_path).bearing) == 6


def test_links_are_followed_by_their_own_names(tmp_path):
    images("store/deep/cat")(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "feline").symlink_to("../store/deep/cat")
    (below,) = open_folder(tmp_path / "set").folders
    assert (below.name, below.is_link, len(below.images)) == ("feline", True, 2)


def test_name_of_a_named_folder_is_the_one_typed(tmp_path, monkeypatch):
    images("store/cat")(tmp_path)
    (tmp_path / "pets").symlink_to("store")
    assert open_folder(tmp_path / "pets").name == "pets"
    monkeypatch.chdir(tmp_path / "store")
    assert Folder(type(tmp_path)(".")).name == "store"


def test_class_folders_that_link_to_each_other_are_read_once_each(tmp_path):
    images("a", "b", "c")(tmp_path)
    for name, other in ("ab", "bc", "ca"):
        (tmp_path / name / "next").symlink_to(f"../{other}")
    (tmp_path / "0").symlink_to("c")
    skipped = []
    found = files_of_classes(Folder(tmp_path).bearing, skipped)
    assert [len(files) for files in found] == [0, 2, 2, 2]
    assert len(skipped) == 4
    assert dict(skipped)[str(tmp_path / "0")] == f"the same folder as {tmp_path / 'c'}, which is read"


def test_many_folders_that_link_to_each_other_are_soon_looked_through(tmp_path):
    for name in map(str, range(12)):  # 12! ways from link to link
        (tmp_path / name).mkdir()
        for other in map(str, range(12)):
            (tmp_path / name / f"to{other}").symlink_to(f"../{other}")
    assert not Folder(tmp_path).holds_images
    assert image_files(tmp_path, []) == []


def test_link_in_a_circle_of_its_own_is_listed(tmp_path):
    images("a")(tmp_path)
    (tmp_path / "a" / "x.png").symlink_to("x.png")
    (tmp_path / "a" / "gone").symlink_to("nowhere")
    assert set(names(Folder(tmp_path / "a").others)) == {"x.png", "gone"}


@pytest.fixture
def as_another_user():
    """Be nobody where the tests run as root, whom permissions do not bind."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize("mode", [0o444, 0o111, 0o000])
def test_folder_that_cannot_be_read_is_listed_with_the_reason(tmp_path, mode, request):
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    images("cat", "dog")(tmp_path)
    (tmp_path / "dog").chmod(mode)
    request.getfixturevalue("as_another_user")
    assert files_and_folders(tmp_path / "dog")[1] == []
    folder = Folder(tmp_path)
    assert [below.name for below in folder.bearing] == ["cat"]
    assert names(folder.unused()) == {"dog": "a folder that cannot be read: Permission denied"}
    with pytest.raises(DataError, match=r"dog: expected a folder that can be read, got .*Permission denied"):
        open_folder(tmp_path / "dog")


def test_subfolders_and_image_files_list_what_is_neither(tmp_path):
    images("cat", "cat/more", files="notes.txt cat/labels.csv")(tmp_path)
    skipped = []
    assert subfolders(tmp_path, skipped) == [tmp_path / "cat"]
    assert len(image_files(tmp_path / "cat", skipped)) == 4
    assert image_files(tmp_path / "cat", [], with_folders=False) == [tmp_path / "cat" / f"{i}.jpg" for i in range(2)]
    assert names(skipped) == {"notes.txt": "not in a class folder", "labels.csv": "not an image by its name (.csv)"}


def test_first_of_what_was_skipped_is_one_of_each_reason_and_last_what_systems_left(tmp_path):
    images("cat/@eaDir", "dog/@eaDir", files="cat/.x cat/1.txt cat/2.txt dog/1.csv")(tmp_path)
    skipped = []
    image_files(tmp_path, skipped)
    order = [os.path.relpath(path, tmp_path) for path, _ in telling_first(skipped)]
    assert order == ["cat/1.txt", "dog/1.csv", "cat/2.txt", "cat/.x", "cat/@eaDir", "dog/@eaDir"]


def test_files_and_folders_come_by_name_without_system_files(tmp_path):
    images("b", "a", "@eaDir", files="2.txt 1.csv .DS_Store Thumbs.db")(tmp_path)
    (tmp_path / "gone.txt").symlink_to("nowhere")
    files, folders = files_and_folders(tmp_path)
    assert ([path.name for path in files], [path.name for path in folders]) == (["1.csv", "2.txt"], ["a", "b"])
    assert files_and_folders(tmp_path / "missing") == ([], [])
