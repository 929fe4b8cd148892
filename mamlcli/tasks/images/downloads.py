"""Fetch packs from the network: an archive is opened once its checksum is that which torchvision has."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from mamlcli.common.commands import command
from mamlcli.common.disk import environment_error, write_error
from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir, whole_file
from mamlcli.common.leftovers import scratch_folder
from mamlcli.common.words import TORCH_PAIR
from mamlcli.tasks.images.sources import FETCHABLE, import_source, require_free, require_source
from mamlcli.tasks.images.tree_reading import Progress

# A server that sends nothing for so long is taken to be out of reach.
_TIMEOUT_S = 30.0
# CIFAR-100, the largest, has 169 million bytes; what a server sends beyond this is not taken.
_MAX_BYTES = 400_000_000
_PIECE = 1 << 18
_NO_NETWORK = (URLError, ConnectionError, TimeoutError, http.client.HTTPException)


def fetch(
    source: str,
    target_dir: Path,
    *,
    force: bool = False,
    downloading: Progress | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a source, verify its checksums, and write `<source>.npz` to `target_dir`.

    Args:
        source: one of `FETCHABLE`.
        target_dir: where the pack goes. Downloads go to a folder of their own in the user's cache, which is
            removed at the end.
        force: whether a pack that is there may be replaced.
        downloading: is called with (bytes read, bytes in all) of each archive.
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
            _download(source, folder, downloading)
        # What is there by now, another fetch has made of the same files.
        return import_source(source, folder, target, force=True, progress=progress).path


def _download(source: str, folder: Path, progress: Progress | None) -> None:
    """Download the archives into `folder`; torchvision knows the addresses and checksums."""
    try:
        from torchvision.datasets import CIFAR100, Omniglot
    except (ImportError, OSError, RuntimeError) as error:  # its compiled parts are for another build of torch
        raise DataError(
            command("data", "fetch", source),
            expected="a torchvision that can be imported",
            got=" ".join(f"{type(error).__name__}: {error}".split()),
            next_step=TORCH_PAIR,
        ) from error
    if source != "omniglot":
        _download_file(CIFAR100.url, folder / CIFAR100.filename, CIFAR100.tgz_md5, progress)
        return
    for name, md5 in Omniglot.zips_md5.items():
        _download_file(f"{Omniglot.download_url_prefix}/{name}.zip", folder / f"{name}.zip", md5, progress)


class _WrongFileError(Exception):
    """Raised for a download that is not the file that is wanted; its text says what it is."""


def _download_file(url: str, path: Path, md5: str, progress: Progress | None) -> None:
    """Download a file; it has its name only once all of it is here and its checksum is right.

    Raises:
        OSError, HTTPException: of the network or the disk; _WrongFileError: it is another file, or not all of it.
    """
    # Nobody knows how to make another file with the MD5 of one that is given.
    digest, size = hashlib.md5(usedforsecurity=False), 0
    request = Request(url, headers={"User-Agent": "mamlcli"})
    with urlopen(request, timeout=_TIMEOUT_S) as response, whole_file(path) as out:
        total = int(response.headers.get("Content-Length") or 0)
        while piece := response.read(_PIECE):
            size += len(piece)
            if size > _MAX_BYTES:
                raise _WrongFileError(f"more than {_MAX_BYTES:,} bytes")
            digest.update(piece)
            out.write(piece)
            if progress is not None and total:
                progress(size, total)
        if size < total:
            raise _WrongFileError(f"{size:,} of {total:,} bytes")
        if digest.hexdigest() != md5:
            raise _WrongFileError(f"{size:,} bytes with the MD5 checksum {digest.hexdigest()}, not {md5}")


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
    """Turn what a download can raise into a DataError; of a full disk it says what to free."""
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException, _WrongFileError) as error:
        no_network = isinstance(error, _NO_NETWORK)
        if not no_network and (told := environment_error(error)) is not None:
            raise told from error
        is_wrong = isinstance(error, _WrongFileError)
        raise DataError(
            command("data", "fetch", source),
            expected="a network connection to the download" if no_network else "a whole download",
            got=" ".join((str(error) if is_wrong else f"{type(error).__name__}: {error}").split()),
            why="Nothing of it was opened or kept" if is_wrong else None,
            next_step=f"Try again, or get the files another way and run: {command('data', 'import', source, 'DIR')}",
        ) from error
