"""Packs: what is written is read back, and what is no pack is refused in one sentence."""

import errno
import io
import stat

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir, data_dir
from mamlcli.tasks.images import packs
from mamlcli.tasks.images.packs import Pack, PackSource, find_pack, load_pack, read_header, save_pack


@pytest.fixture
def pack():
    images = np.random.default_rng(0).integers(0, 256, size=(6, 5, 5, 3), dtype=np.uint8)
    labels = np.array([0, 0, 1, 1, 2, 2])
    return Pack(images, labels, ("ä/1", "b", "c"), ("x", "y", "y"), PackSource({"licence": "free"}))


def arrays_of(pack):
    return {"images": pack.images, "labels": pack.labels, "class_names": np.array(pack.class_names)}


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_pack_is_read_back_as_it_was_written(pack, tmp_path):
    save_pack(pack, tmp_path / "new" / "p.npz")
    read = load_pack(tmp_path / "new" / "p.npz")
    np.testing.assert_array_equal(read.images, pack.images)
    np.testing.assert_array_equal(read.labels, pack.labels)
    assert (read.class_names, read.class_groups, read.source) == (
        pack.class_names,
        pack.class_groups,
        pack.source,
    )


def test_pack_without_groups_and_source_is_read(pack, tmp_path):
    read = load_pack(write(tmp_path / "p.npz", **arrays_of(pack)))
    assert (read.class_groups, read.source.to_json()) == (None, {})


def test_header_tells_shapes_and_source_without_the_images(pack, tmp_path):
    save_pack(pack, tmp_path / "p.npz")
    header = read_header(tmp_path / "p.npz")
    assert (header.num_images, header.height, header.width, header.channels) == (6, 5, 5, 3)
    assert (header.num_classes, header.source.to_json()) == (3, {"licence": "free"})


def test_header_of_a_file_that_is_no_pack_is_refused(tmp_path):
    (tmp_path / "p.npz").write_text("no archive")
    with pytest.raises(DataError, match="readable pack"):
        read_header(tmp_path / "p.npz")


def test_missing_pack_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_pack(tmp_path / "p.npz")


def test_pack_with_python_objects_is_refused_and_not_unpickled(tmp_path, pack):
    arrays = arrays_of(pack) | {"labels": np.array([{"a": 1}] * 6, dtype=object)}
    with pytest.raises(DataError, match="Python objects"):
        load_pack(write(tmp_path / "p.npz", **arrays))


def test_bare_array_under_the_name_of_a_pack_is_refused(tmp_path, pack):
    with (tmp_path / "p.npz").open("wb") as stream:
        np.save(stream, pack.images)
    with pytest.raises(DataError, match=r"bare \.npy array"):
        load_pack(tmp_path / "p.npz")


def test_archive_without_labels_is_refused_by_the_name_of_what_it_lacks(tmp_path, pack):
    with pytest.raises(DataError, match="labels"):
        load_pack(write(tmp_path / "p.npz", images=pack.images))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"images": np.zeros((6, 5, 5, 3))}, "images uint8"),
        ({"images": np.zeros((6, 5, 5), np.uint8)}, "images uint8"),
        ({"images": np.zeros((6, 5, 5, 2), np.uint8)}, "images uint8"),
        ({"images": np.zeros((6, 0, 5, 3), np.uint8)}, "images uint8"),
        ({"labels": np.arange(6.0)}, "labels int64"),
        ({"labels": np.zeros(5, np.int64)}, "labels int64"),
        ({"labels": np.array([0, 0, 1, 1, 2, 3])}, r"labels in \[0, 3\), got 0 to 3"),
        ({"labels": np.array([-1, 0, 1, 1, 2, 2])}, r"labels in \[0, 3\), got -1 to 2"),
        ({"class_names": np.array(["a", "a", "b"])}, "class_names unique"),
        ({"class_names": np.arange(3)}, "class_names unique"),
        ({"class_groups": np.array(["x"])}, "class_groups"),
        ({"source": np.array("{not json")}, "JSON"),
        ({"images": np.zeros((0, 5, 5, 3), np.uint8), "labels": np.zeros(0, np.int64)}, "at least one image"),
    ],
)
def test_pack_with_a_wrong_array_is_refused(tmp_path, pack, change, expected):
    with pytest.raises(DataError, match=expected):
        load_pack(write(tmp_path / "p.npz", **(arrays_of(pack) | change)))


def test_pack_cut_off_anywhere_is_refused(tmp_path, pack):
    save_pack(pack, tmp_path / "whole.npz")
    content = (tmp_path / "whole.npz").read_bytes()
    for length in range(0, len(content), 37):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(DataError):
            load_pack(tmp_path / "cut.npz")


def test_pack_with_any_byte_changed_is_read_or_refused(tmp_path, pack):
    save_pack(pack, tmp_path / "whole.npz")
    content = (tmp_path / "whole.npz").read_bytes()
    num_refused = 0
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            load_pack(tmp_path / "damaged.npz")
        except DataError:
            num_refused += 1
    assert num_refused > 0


def test_failed_write_leaves_the_old_pack_and_nothing_else(tmp_path, pack, monkeypatch):
    path = tmp_path / "p.npz"
    save_pack(pack, path)
    before = path.read_bytes()

    def full_disk(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packs.np, "savez_compressed", full_disk)
    with pytest.raises(DataError, match="no space left on device"):
        save_pack(pack, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_write_leaves_nothing(tmp_path, pack, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(packs.np, "savez_compressed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_pack(pack, tmp_path / "p.npz")
    assert list(tmp_path.iterdir()) == []


def test_pack_has_the_permissions_of_any_new_file(tmp_path, pack):
    save_pack(pack, tmp_path / "p.npz")
    (tmp_path / "other").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("p.npz", "other")]
    assert modes[0] == modes[1]


def test_pack_is_found_in_the_data_folder_before_the_cache(pack):
    save_pack(pack, cache_dir() / "p.npz")
    assert find_pack("p") == cache_dir() / "p.npz"
    save_pack(pack, data_dir() / "p.npz")
    assert find_pack("p") == data_dir() / "p.npz"
    assert find_pack("q") is None


def test_select_classes_names_what_is_missing(pack):
    assert packs.select_classes(pack, ["c", "b"], where="w") == [2, 1]
    with pytest.raises(DataError, match="1 missing: zebra"):
        packs.select_classes(pack, ["b", "zebra"], where="w")


def test_class_counts_include_classes_without_images():
    pack = Pack(np.zeros((1, 2, 2, 1), np.uint8), np.array([0]), ("a", "b"))
    assert pack.class_counts().tolist() == [1, 0]


def test_pack_needs_no_pickle(pack, tmp_path):
    save_pack(pack, tmp_path / "p.npz")
    with np.load(io.BytesIO((tmp_path / "p.npz").read_bytes()), allow_pickle=False) as archive:
        assert all(archive[key].dtype != object for key in archive.files)


def test_source_of_a_pack_says_nothing_where_others_wrote_something_else():
    note = PackSource.from_json([1])
    assert (note.name, note.licence, note.class_splits, note.to_json()) == (None, None, None, {"note": [1]})
    odd = PackSource({"preprocessing": "drawn", "class_splits": {"train": ["a", 1], "test": 3}, "licence": ""})
    assert (odd.preprocessing, odd.licence) == ({}, None)
    assert odd.class_splits == {"train": ("a", "1")}
