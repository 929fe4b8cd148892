"""Open the pack that a command names, and look up the classes of its splits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError
from mamlcli.common.names import CLASS_SPLITS, SPLITS
from mamlcli.common.words import nearest

if TYPE_CHECKING:
    from mamlcli.tasks.images.packs import Pack


def open_pack(name_or_path: str) -> tuple[Pack, str, str]:
    """Load a pack by name or path; return it, its source, and how messages name it."""
    from mamlcli.tasks.images.packs import find_pack

    path = find_pack(name_or_path)
    # A folder of that name, perhaps a run, must not hide the glyphs.
    is_glyphs = name_or_path == "glyphs" and not Path(name_or_path).is_file()
    if path is None and not is_glyphs and (name_or_path.endswith(".npz") or Path(name_or_path).exists()):
        path = Path(name_or_path)
    if path is None and is_glyphs:
        from mamlcli.tasks.images.glyphs import load_glyphs

        return load_glyphs(0), "glyphs", "glyphs"
    if path is None:
        raise _no_pack(name_or_path)
    pack = load_pack_of(path, path.name)
    candidates = (pack.source.name or "", path.stem)
    source = next((name for name in candidates if name in CLASS_SPLITS), "folder")
    return pack, source, str(path)


def load_pack_of(path: Path, source: str) -> Pack:
    """Read a pack.

    Args:
        path: its file.
        source: which source a folder, an archive or a pickle in its place is imported as; any other name than that of
            a source means "folder".

    Raises:
        DataError: it is none; where a pack can be made of what is there, the message has the command.
    """
    from mamlcli.tasks.images.archives import ARCHIVE_SUFFIXES
    from mamlcli.tasks.images.packs import load_pack
    from mamlcli.tasks.images.pickled_sets import PICKLE_SUFFIXES
    from mamlcli.tasks.images.sources import IMPORTABLE

    is_importable_file = path.is_file() and path.name.lower().endswith((*ARCHIVE_SUFFIXES, *PICKLE_SUFFIXES))
    if not (path.is_dir() or is_importable_file):
        return load_pack(path)
    make = command("data", "import", source if source in IMPORTABLE else "folder", str(path))
    raise DataError(
        str(path),
        expected="a pack (.npz file)",
        got="a folder" if path.is_dir() else "an archive or a pickle",
        next_step=f"Make a pack of it: {make}",
    )


def _no_pack(name: str) -> DataError:
    from mamlcli.tasks.images.sources import SOURCES

    facts = SOURCES.get(name)
    if facts and not facts.get.startswith("mamlcli"):
        return DataError(name, expected="a source of images", got="one whose tasks are computed")
    return DataError(
        name,
        expected="a pack in $MAMLCLI_DATA or the cache, or an .npz file",
        got="none of this name",
        why=None if facts else nearest(name, SOURCES).strip(),
        next_step=f"To get {name}: {facts.get}" if facts else "Run: mamlcli data ls",
    )


def check_split_name(split: str, known: tuple[str, ...]) -> None:
    """Raise DataError if a split is none of the known ones."""
    if split not in known:
        raise DataError(
            "--split", expected=f"one of {', '.join(known)}", got=repr(split), why=nearest(split, known).strip()
        )


def present_classes(pack: Pack, source: str, split: str, where: str) -> list[str]:
    """Return the classes of a split that are in the pack; the others are not missed.

    Raises:
        DataError: none is in the pack, or there is no such split.
    """
    from mamlcli.tasks.images.class_splits import class_split

    check_split_name(split, (*SPLITS, "all"))
    wanted = pack.class_names if split == "all" else class_split(source, pack)[split]
    present = set(pack.class_names)
    names = [name for name in wanted if name in present]
    if not names:
        raise DataError(
            where,
            expected=f"classes of the split {split!r}",
            got="none of them in the pack",
            next_step="Use another split, or: --split all",
        )
    return names
