"""Fetching from a server of this machine: what is not the file that is wanted is never opened, nor kept."""

import contextlib
import hashlib
import shutil
import sys
import threading
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import CIFAR100, Omniglot

from mamlcli.common.disk import EnvironmentFault
from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir, data_dir
from mamlcli.tasks.images import downloads
from mamlcli.tasks.images.downloads import fetch
from mamlcli.tasks.images.packs import load_pack
from tests.helpers.image_files import cifar_archive, cifar_files, omniglot_folders

CIFAR = "cifar-100-python.tar.gz"


class Server(ThreadingHTTPServer):
    """A server with files by their names; `sent` says how many of the bytes that it announces it sends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.sent, self.asked, self.barrier = {}, None, [], None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Say nothing of a client that has gone."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        self.server.asked.append(name)
        if self.server.barrier is not None:
            self.server.barrier.wait(timeout=30)
        body = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body[: self.server.sent])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with small archives like those of Omniglot and CIFAR-100, and torchvision's checksums of them."""
    monkeypatch.setenv("no_proxy", "*")
    with Server() as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        for part, alphabet in (("images_background", "Greek"), ("images_evaluation", "ULOG")):
            omniglot_folders(tmp_path / "made" / part / part, alphabets=[alphabet])
            archive = shutil.make_archive(tmp_path / "made" / part, "zip", tmp_path / "made" / part)
            made.files[f"{part}.zip"] = Path(archive).read_bytes()
        cifar_archive(tmp_path / "made" / CIFAR, cifar_files(tmp_path / "made" / "cifar"))
        made.files[CIFAR] = (tmp_path / "made" / CIFAR).read_bytes()
        md5 = {name.removesuffix(".zip"): hashlib.md5(body).hexdigest() for name, body in made.files.items()}
        monkeypatch.setattr(CIFAR100, "url", f"{made.url}/{CIFAR}")
        monkeypatch.setattr(CIFAR100, "tgz_md5", md5.pop(CIFAR))
        monkeypatch.setattr(Omniglot, "download_url_prefix", made.url)
        monkeypatch.setattr(Omniglot, "zips_md5", md5)
        yield made
        made.shutdown()


@pytest.fixture
def never_opened(monkeypatch):
    """Fail the test if a download is opened."""

    def fail(*_args, **_kwargs):
        raise AssertionError("a download was opened")

    monkeypatch.setattr(downloads, "import_source", fail)


def left_in_cache():
    return [path for path in cache_dir().rglob("*") if path.is_file()] if cache_dir().exists() else []


def test_addresses_are_of_https_and_checksums_whole():
    urls = [CIFAR100.url, Omniglot.download_url_prefix]
    assert all(url.startswith("https://") for url in urls)
    assert all(len(md5) == 32 for md5 in (CIFAR100.tgz_md5, *Omniglot.zips_md5.values()))


def test_omniglot_is_fetched_in_its_two_parts(tmp_path, server):
    seen = []
    path = fetch("omniglot", tmp_path / "data", downloading=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "data" / "omniglot.npz"
    assert load_pack(path).class_groups == ("Greek", "Greek", "ULOG", "ULOG")
    assert server.asked == ["images_background.zip", "images_evaluation.zip"]
    assert seen[-1] == (len(server.files["images_evaluation.zip"]),) * 2
    assert left_in_cache() == []


@pytest.mark.parametrize("source", ["cifar-fs", "fc100"])
def test_cifar_is_fetched_as_its_archive(tmp_path, server, source):
    pack = load_pack(fetch(source, tmp_path / "data"))
    assert pack.class_names == ("apple", "bear", "pear", "wolf")
    assert pack.source.name == source
    assert left_in_cache() == []


@pytest.mark.parametrize(("source", "name"), [("omniglot", "images_evaluation.zip"), ("cifar-fs", CIFAR)])
@pytest.mark.parametrize("fault", ["one bit", "another file", "cut", "too long", "no file"])
def test_what_is_not_the_file_is_not_opened_nor_kept(tmp_path, server, never_opened, monkeypatch, source, name, fault):
    body = bytearray(server.files[name])
    body[len(body) // 2] ^= 1
    if fault in ("one bit", "another file"):
        server.files[name] = bytes(body) if fault == "one bit" else b"<!DOCTYPE html><p>Log in to this network"
    if fault == "cut":
        server.sent = 100
    if fault == "too long":
        monkeypatch.setattr(downloads, "_MAX_BYTES", 10)
    if fault == "no file":
        del server.files[name]
    with pytest.raises(DataError, match=f"mamlcli data import {source} DIR") as caught:
        fetch(source, tmp_path / "data")
    words = {"cut": "100 of", "too long": "more than 10 bytes", "no file": "network connection"}
    assert words.get(fault, "with the MD5 checksum") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()
    assert left_in_cache() == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (urllib.error.URLError("no route"), "a network connection"),
        (TimeoutError("timed out"), "a network connection"),
        (ConnectionResetError(104, "reset"), "a network connection"),
        (OSError("odd"), "a whole download"),
    ],
)
def test_failed_download_is_one_sentence_that_names_the_import(tmp_path, monkeypatch, error, expected):
    monkeypatch.setattr(downloads, "urlopen", fail_with(error))
    with pytest.raises(DataError, match=f"{expected}.*mamlcli data import omniglot DIR") as caught:
        fetch("omniglot", tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()
    assert left_in_cache() == []


def fail_with(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


def test_full_disk_says_what_to_free(tmp_path, server, monkeypatch):
    monkeypatch.setattr("mamlcli.common.files.os.fsync", fail_with(OSError(28, "No space left on device")))
    with pytest.raises(EnvironmentFault, match=f"{CIFAR}: expected room on the disk"):
        fetch("cifar-fs", tmp_path / "data")
    assert left_in_cache() == []


def test_a_torchvision_that_cannot_be_imported_is_one_sentence_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataError, match=r"expected a torchvision that can be imported, got .*from one index"):
        fetch("omniglot", tmp_path / "data")


def test_interrupted_download_leaves_nothing(tmp_path, server):
    def interrupt(done, total):
        assert [path.name.endswith(".partial") for path in left_in_cache()] == [True]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("cifar-fs", tmp_path / "data", downloading=interrupt)
    assert left_in_cache() == []


def test_a_silent_server_is_given_up(tmp_path, server, monkeypatch):
    server.barrier = threading.Event()  # whose wait is that of the server
    monkeypatch.setattr(downloads, "_TIMEOUT_S", 0.05)
    with pytest.raises(DataError, match=r"expected a network connection to the download, got .*[Tt]imeout"):
        fetch("cifar-fs", tmp_path / "data")
    server.barrier.set()


def test_a_pack_that_another_fetch_made_meanwhile_is_no_error(server, monkeypatch):
    whole_pack, download = fetch("cifar-fs", data_dir()), downloads._download
    content = whole_pack.read_bytes()
    whole_pack.unlink()

    def download_beside_another(*arguments):
        download(*arguments)
        whole_pack.write_bytes(content)

    monkeypatch.setattr(downloads, "_download", download_beside_another)
    assert fetch("cifar-fs", data_dir()) == whole_pack
    assert load_pack(whole_pack).num_classes == 4


def test_two_that_fetch_together_both_get_the_whole_pack(server):
    server.barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch("cifar-fs", data_dir()), range(2)))
    assert server.asked == [CIFAR] * 2
    assert paths[0] == paths[1]
    assert load_pack(paths[0]).num_classes == 4
    assert [path.name for path in data_dir().iterdir()] == ["cifar-fs.npz"]
    assert left_in_cache() == []


def test_pack_that_is_there_is_not_fetched_again(tmp_path, server):
    (tmp_path / "omniglot.npz").touch()
    with pytest.raises(DataError, match="--force"):
        fetch("omniglot", tmp_path)
    assert server.asked == []


def test_source_that_cannot_be_fetched_names_its_import(tmp_path):
    with pytest.raises(DataError, match="mamlcli data import mini-imagenet DIR"):
        fetch("mini-imagenet", tmp_path)
