"""CIFAR-100's own files: read completely, and never trusted."""

import pickle

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.cifar import read_cifar
from tests.helpers.image_files import cifar_archive, cifar_files, python2_pickle


@pytest.fixture
def folder(tmp_path):
    return cifar_files(tmp_path / "cifar-100-python")


def test_classes_are_sorted_and_both_parts_joined(folder):
    cifar = read_cifar(folder)
    assert cifar.class_names == ("apple", "bear", "pear", "wolf")
    assert cifar.class_groups == ("fruit", "carnivores", "fruit", "carnivores")
    assert cifar.images.shape == (24, 32, 32, 3)
    assert cifar.labels.tolist() == sorted([0, 1, 2, 3] * 6)


def test_pixels_are_turned_from_planes_to_rgb(folder):
    with (folder / "train").open("rb") as stream:
        planes = pickle.load(stream, encoding="latin1")["data"][0].reshape(3, 32, 32)
    cifar = read_cifar(folder)
    first_wolf = cifar.images[cifar.labels == cifar.class_names.index("wolf")][0]
    np.testing.assert_array_equal(first_wolf, planes.transpose(1, 2, 0))


def test_folder_above_and_archive_read_the_same(folder, tmp_path):
    expected = read_cifar(folder)
    archive = cifar_archive(tmp_path / "other" / "cifar-100-python.tar.gz", folder)
    for path in (tmp_path, archive, archive.parent):
        np.testing.assert_array_equal(read_cifar(path).images, expected.images)


class Attack:
    """Pickles as a call of `print`."""

    def __reduce__(self):
        return print, ("this ran",)


def test_pickle_that_calls_a_function_is_refused_and_not_run(folder, capsys):
    (folder / "meta").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(DataError, match="print is not data"):
        read_cifar(folder)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match="train, test, meta"):
        read_cifar(folder)


def test_archive_without_a_file_names_it(folder, tmp_path):
    (folder / "meta").unlink()
    with pytest.raises(DataError, match="an archive without meta"):
        read_cifar(cifar_archive(tmp_path / "a.tar.gz", folder))


@pytest.mark.parametrize("length", [0, 100, 2000, 20_000])
def test_archive_cut_off_is_refused(folder, tmp_path, length):
    archive = cifar_archive(tmp_path / "a.tar.gz", folder)
    archive.write_bytes(archive.read_bytes()[:length])
    with pytest.raises(DataError, match=r"a\.tar\.gz: expected the files"):
        read_cifar(archive)


def test_file_cut_off_anywhere_is_refused(folder):
    content = (folder / "meta").read_bytes()
    for length in range(len(content)):
        (folder / "meta").write_bytes(content[:length])
        with pytest.raises(DataError):
            read_cifar(folder)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("train", ["no", "dictionary"], "a dictionary, got list"),
        ("train", {}, "data uint8"),
        ("train", {"data": np.zeros((1, 3072))}, "data uint8"),
        ("train", {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [4]}, "fine_labels"),
        ("train", {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0, 1]}, "fine_labels"),
        ("train", {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}, "coarse_labels"),
        ("meta", {}, "fine_label_names"),
        ("meta", {"fine_label_names": ["a", "a"], "coarse_label_names": ["b"]}, "names under"),
    ],
)
def test_file_with_other_contents_is_refused(folder, name, content, expected):
    python2_pickle(folder / name, content)
    with pytest.raises(DataError, match=expected):
        read_cifar(folder)


def test_cifar_10_is_refused(tmp_path):
    python2_pickle(tmp_path / "data_batch_1", {})
    with pytest.raises(DataError, match="CIFAR-100"):
        read_cifar(tmp_path)
