"""Image sets in the layouts in which they are passed on: each row of the table in docs/data.md is made and imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import mamlcli
from mamlcli.cli.data import app
from mamlcli.common.errors import DataError
from mamlcli.common.files import data_dir
from mamlcli.tasks.images.class_splits import class_split
from mamlcli.tasks.images.layouts import ImageOptions, read_layout
from mamlcli.tasks.images.packs import load_pack
from tests.helpers.image_files import class_folders
from tests.helpers.layouts import ROWS, cache, dump, with_table

ROOT = Path(mamlcli.__file__).parents[1]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path / "packs"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.command.removeprefix("mamlcli data import "))
def test_every_row_of_the_table_is_imported_with_its_classes_splits_and_groups(row, here):
    row.make(here)
    result = CliRunner().invoke(app, row.words)
    assert result.exit_code == 0, result.exception
    (path,) = data_dir().glob("*.npz")
    pack = load_pack(path)
    assert pack.class_names == tuple(sorted(row.classes))
    if row.groups is not None:
        assert dict(zip(pack.class_names, pack.class_groups, strict=True)) == row.groups
    source = row.words[1]
    recorded = pack.source.class_splits
    if row.splits is None:
        assert source == "folder"
        assert recorded is None
    else:
        splits = class_split(source, pack)
        present = set(pack.class_names)
        assert {split: sorted(present.intersection(names)) for split, names in splits.items()} == {
            split: sorted(names) for split, names in row.splits.items()
        }
    assert set(data_dir().iterdir()) == {path}, "what was unpacked is removed"


def test_the_table_of_the_document_is_that_of_the_tests():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert with_table(text) == text, "Run: make docs"
    assert len({row.command for row in ROWS}) == len(ROWS)


def read(source, path, **options):
    return read_layout(source, path, options=ImageOptions(**options))


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("data.hdf5", "Torchmeta's HDF5 files are not read"),
        ("set.rar", "Unpack it"),
        ("set.npz", "needs no import"),
        ("set.npy", "class folders"),
        ("set.jpg", "the folder that holds"),
        ("set", "import --help"),
    ],
)
def test_a_file_that_is_not_read_is_answered_with_what_to_do(here, file, expected):
    (here / "set").mkdir()
    (here / "set" / file).write_text("x")
    with pytest.raises(DataError, match=expected):
        read("folder", here / "set" / file)
    if file.endswith("hdf5"):
        with pytest.raises(DataError, match=expected):
            read("mini-imagenet", here / "set")


@pytest.mark.parametrize("source", ["folder", "mini-imagenet", "cifar-fs", "fc100", "omniglot"])
def test_nothing_there_is_said(here, source):
    (here / "empty").mkdir()
    for path in (here / "empty", here / "missing"):
        with pytest.raises(DataError, match=path.name):
            read(source, path)


def test_a_small_part_of_omniglot_is_no_source(here):
    (here / "images_background_small1.zip").write_text("x")
    with pytest.raises(DataError, match="whole archive"):
        read("omniglot", here / "images_background_small1.zip")


def test_pickles_among_class_folders_are_no_image_set(here):
    class_folders(here / "birds", ["ant", "bee"])
    dump(here / "birds" / "filenames.pickle", ["ant/1.jpg"])
    assert read("folder", here / "birds").class_names == ("ant", "bee")


def test_arrays_take_no_image_options(here):
    dump(here / "mine.pkl", cache(["ant"], 20))
    for options in ({"size": 16}, {"channels": 1}, {"invert": "yes"}):
        with pytest.raises(DataError, match=r"no --size.*Make a pack of it: mamlcli data import folder"):
            read("folder", here / "mine.pkl", **options)


def test_class_lists_that_differ_from_the_published_ones_are_said_and_kept_for_folder(here):
    class_folders(here / "cifar100" / "data", ["apple", "baby"], side=32)
    (here / "cifar100" / "splits").mkdir()
    (here / "cifar100" / "splits" / "train.txt").write_text("baby\n")
    (here / "cifar100" / "splits" / "test.txt").write_text("apple\n")
    found = read("cifar-fs", here / "cifar100")
    assert "have another split of baby, apple" in found.notes[0]
    assert found.class_splits == {"train": ["baby"], "validation": [], "test": ["apple"]}


def test_files_of_other_splits_beside_a_pickle_are_named_with_the_command_for_all(here):
    for split in ("train", "val", "test"):
        dump(here / f"mini-imagenet-cache-{split}.pkl", cache([split], 20))
    dump(here / "another-test.pkl", cache(["x"], 20))
    (note,) = read("mini-imagenet", here / "mini-imagenet-cache-train.pkl").notes
    assert "beside it: mini-imagenet-cache-val.pkl, mini-imagenet-cache-test.pkl. To import them all: " in note
    assert note.endswith(f"mamlcli data import mini-imagenet {here}")
    assert read("folder", here / "another-test.pkl").notes == []
