"""Fetch packs from the network: torchvision downloads and verifies the archives, `sources` packs them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

from mamlcli.common.commands import command
from mamlcli.common.disk import write_error
from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir
from mamlcli.common.leftovers import scratch_folder
from mamlcli.tasks.images.sources import FETCHABLE, import_source, require_free, require_source
from mamlcli.tasks.images.tree_reading import Progress

# A server that sends nothing for so long is taken to be out of reach.
_TIMEOUT_S = 30.0
_NO_NETWORK = (URLError, ConnectionError, TimeoutError, http.client.HTTPException)


def fetch(source: str, target_dir: Path, *, force: bool = False, progress: Progress | None = None) -> Path:
    """Download a source, verify its checksums, and write `<source>.npz` to `target_dir`.

    Args:
        source: one of `FETCHABLE`.
        target_dir: where the pack goes. Downloads go to a folder of their own in the user's cache, which is
            removed at the end.
        force: whether a pack that is there may be replaced.
        progress: is called with (files read, files in all) while the download is packed.

    Returns:
        The pack's path.

    Raises:
        DataError: there is no network, a checksum is wrong, the disk is full, or the target is there.
    """
    require_source(source, FETCHABLE, "fetch")
    target = target_dir / f"{source}.npz"
    require_free(target, force=force)
    with _download_folder() as folder:
        with _download_errors(source):
            _download(source, folder)
        return import_source(source, folder, target, force=force, progress=progress).path


def _download(source: str, folder: Path) -> None:
    """Download the archives into `folder`; torchvision knows the addresses and checksums."""
    from torchvision.datasets import CIFAR100, Omniglot, utils

    if source != "omniglot":
        utils.download_url(CIFAR100.url, str(folder), CIFAR100.filename, CIFAR100.tgz_md5)
        return
    for name, md5 in Omniglot.zips_md5.items():
        url = f"{Omniglot.download_url_prefix}/{name}.zip"
        utils.download_and_extract_archive(url, str(folder), filename=f"{name}.zip", md5=md5)


@contextlib.contextmanager
def _download_folder() -> Iterator[Path]:
    """Make a folder in the user's cache that is removed at the end, whatever happens."""
    try:
        stack = contextlib.ExitStack()
        folder = stack.enter_context(scratch_folder(cache_dir(), ".fetch-"))
    except OSError as error:
        raise write_error(
            error,
            str(cache_dir()),
            expected="a folder that can be written",
            next_step="Set XDG_CACHE_HOME to a folder of yours",
            kind=DataError,
        ) from error
    with stack:
        yield folder


@contextlib.contextmanager
def _download_errors(source: str) -> Iterator[None]:
    """Turn what a download can raise into a DataError, and make it give up on a server that sends nothing."""
    timeout_s = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    except (OSError, RuntimeError, http.client.HTTPException, zipfile.BadZipFile) as error:
        no_network = isinstance(error, _NO_NETWORK)
        raise DataError(
            command("data", "fetch", source),
            expected="a network connection to the download" if no_network else "a whole download",
            got=" ".join(f"{type(error).__name__}: {error}".split()),
            next_step=f"Try again, or get the files another way and run: {command('data', 'import', source, 'DIR')}",
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_s)
