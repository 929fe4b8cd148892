"""The pack that a command names is opened, and a wrong name is refused with what to do."""

import numpy as np
import pytest

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError
from mamlcli.common.files import data_dir
from mamlcli.tasks.images.find import check_split_name, open_pack, present_classes
from mamlcli.tasks.images.packs import Pack, PackSource, save_pack
from tests.helpers.image_files import noise

NAMES = ("apple", "bear", "wolf")


def pack_of(names=NAMES, **source):
    return Pack(noise(len(names), 4, 4, 1), np.arange(len(names)), names, source=PackSource(source))


def refused(name):
    with pytest.raises(DataError) as caught:
        open_pack(name)
    return str(caught.value)


def test_pack_is_opened_by_name_or_path_and_says_its_source():
    path = data_dir() / "mine.npz"
    save_pack(pack_of(name="cifar-fs"), path)
    for name_or_path in ("mine", str(path)):
        pack, source, where = open_pack(name_or_path)
        assert (pack.class_names, source, where) == (NAMES, "cifar-fs", str(path))


@pytest.mark.parametrize(("file_name", "source"), [("omniglot", "omniglot"), ("pets", "folder")])
def test_pack_that_does_not_say_its_source_has_that_of_its_name(file_name, source):
    save_pack(pack_of(), data_dir() / f"{file_name}.npz")
    assert open_pack(file_name)[1] == source


@pytest.mark.parametrize(
    ("name", "kind", "source"),
    [
        ("my photos", "a folder", "folder"),
        ("omniglot", "a folder", "omniglot"),
        ("birds.tar.gz", "an archive or a pickle", "folder"),
        ("cache-train.pkl", "an archive or a pickle", "folder"),
    ],
)
def test_what_packs_are_made_of_is_answered_with_the_import(name, kind, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if kind == "a folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b"x")
    told = refused(name)
    assert f"expected a pack (.npz file), got {kind}" in told
    assert told.endswith(command("data", "import", source, name))


def test_folder_named_glyphs_does_not_hide_the_glyphs(with_glyphs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glyphs").mkdir()
    pack, source, where = open_pack("glyphs")
    assert (source, where) == ("glyphs", "glyphs")
    assert pack.num_classes >= 600


def test_source_whose_pack_is_not_here_names_the_command_that_brings_it():
    assert "To get omniglot: mamlcli data fetch omniglot" in refused("omniglot")
    assert "Did you mean 'omniglot'? Run: mamlcli data ls" in refused("omniglott")
    assert "got one whose tasks are computed" in refused("sinusoid")


def test_file_that_is_not_there_is_refused_as_a_file(tmp_path):
    assert "got no such file" in refused(str(tmp_path / "no.npz"))


def test_unknown_split_is_refused_with_the_nearest_name():
    check_split_name("test", ("train", "test"))
    with pytest.raises(DataError, match="Did you mean 'train'"):
        check_split_name("trian", ("train", "test"))


def test_classes_of_a_split_are_those_that_the_pack_has():
    # Of CIFAR-FS: apple is in no list but that of meta-train, baby in none but that of meta-test.
    pack = pack_of(("apple", "baby", "unheard of"))
    assert present_classes(pack, "cifar-fs", "train", "w") == ["apple"]
    assert present_classes(pack, "cifar-fs", "test", "w") == ["baby"]
    assert present_classes(pack, "cifar-fs", "all", "w") == ["apple", "baby", "unheard of"]


def test_split_without_a_class_in_the_pack_is_refused():
    with pytest.raises(DataError, match=r"mine\.npz: expected classes of the split 'validation'.*--split all"):
        present_classes(pack_of(("apple",)), "cifar-fs", "validation", "mine.npz")
