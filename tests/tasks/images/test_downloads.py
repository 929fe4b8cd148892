"""Fetching: torchvision's downloads are packed, and every failure is one sentence; nothing is downloaded."""

import socket
import urllib.error
from pathlib import Path

import pytest
from torchvision.datasets import utils

from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir
from mamlcli.tasks.images.downloads import fetch
from mamlcli.tasks.images.packs import load_pack
from tests.helpers.image_files import cifar_archive, cifar_files, omniglot_folders


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    # Whatever a test forgets to replace fails at once.
    monkeypatch.setattr(utils, "_get_redirect_url", fail_with(AssertionError("the network was used")))


def fail_with(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


def left_in_cache():
    return list(cache_dir().iterdir())


def test_omniglot_is_fetched_in_its_two_parts(tmp_path, monkeypatch):
    seen = {}

    def download(url, download_root, filename, md5):
        seen[filename] = (url, md5)
        part = filename.removesuffix(".zip")
        alphabet = "Greek" if part == "images_background" else "ULOG"
        omniglot_folders(Path(download_root) / part, alphabets=[alphabet])

    monkeypatch.setattr(utils, "download_and_extract_archive", download)
    path = fetch("omniglot", tmp_path / "data")
    assert path == tmp_path / "data" / "omniglot.npz"
    assert load_pack(path).class_groups == ("Greek", "Greek", "ULOG", "ULOG")
    assert sorted(seen) == ["images_background.zip", "images_evaluation.zip"]
    assert all(url.startswith("https://") and len(md5) == 32 for url, md5 in seen.values())
    assert left_in_cache() == []


@pytest.mark.parametrize("source", ["cifar-fs", "fc100"])
def test_cifar_is_fetched_as_its_archive(tmp_path, monkeypatch, source):
    def download(url, root, filename, md5):
        assert url.endswith("cifar-100-python.tar.gz")
        assert len(md5) == 32
        cifar_archive(Path(root) / filename, cifar_files(tmp_path / "made"))

    monkeypatch.setattr(utils, "download_url", download)
    pack = load_pack(fetch(source, tmp_path / "data"))
    assert pack.class_names == ("apple", "bear", "pear", "wolf")
    assert pack.source.name == source
    assert left_in_cache() == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (urllib.error.URLError("no route"), "a network connection"),
        (TimeoutError("timed out"), "a network connection"),
        (ConnectionResetError("reset"), "a network connection"),
        (RuntimeError("File not found or corrupted."), "a whole download"),
        (OSError("No space left on device"), "a whole download"),
    ],
)
def test_failed_download_is_one_sentence_that_names_the_import(tmp_path, monkeypatch, error, expected):
    monkeypatch.setattr(utils, "download_and_extract_archive", fail_with(error))
    with pytest.raises(DataError, match=f"{expected}.*mamlcli data import omniglot DIR") as caught:
        fetch("omniglot", tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()
    assert left_in_cache() == []


def test_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "download_url", fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        fetch("cifar-fs", tmp_path / "data")
    assert left_in_cache() == []


def test_fetch_gives_up_on_a_silent_server_and_restores_the_timeout(tmp_path, monkeypatch):
    timeouts = []

    def download(*_args):
        timeouts.append(socket.getdefaulttimeout())
        raise TimeoutError

    monkeypatch.setattr(utils, "download_url", download)
    before = socket.getdefaulttimeout()
    with pytest.raises(DataError):
        fetch("cifar-fs", tmp_path / "data")
    assert timeouts[0] is not None
    assert socket.getdefaulttimeout() == before


def test_pack_that_is_there_is_not_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "omniglot.npz").touch()
    monkeypatch.setattr(utils, "download_and_extract_archive", fail_with(AssertionError("downloaded")))
    with pytest.raises(DataError, match="--force"):
        fetch("omniglot", tmp_path)


def test_source_that_cannot_be_fetched_names_its_import(tmp_path):
    with pytest.raises(DataError, match="mamlcli data import mini-imagenet DIR"):
        fetch("mini-imagenet", tmp_path)
