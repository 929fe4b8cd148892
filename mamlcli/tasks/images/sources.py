"""List the sources of image sets, and import files of theirs as packs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError
from mamlcli.common.files import data_dir
from mamlcli.common.words import composed, nearest, shown
from mamlcli.tasks.images.archives import archive_stem, as_typed, unpacking
from mamlcli.tasks.images.image_sets import ImageSet
from mamlcli.tasks.images.known_classes import known_names
from mamlcli.tasks.images.layouts import ImageOptions, read_layout
from mamlcli.tasks.images.packs import Pack, PackSource, read_header, save_pack
from mamlcli.tasks.images.pickled_sets import PICKLE_SUFFIXES
from mamlcli.tasks.images.reading import Preprocessing
from mamlcli.tasks.images.tree_reading import Progress

INVERT_CHOICES = ("auto", "yes", "no")
FETCHABLE = ("omniglot", "cifar-fs", "fc100")
IMPORTABLE = (*FETCHABLE, "mini-imagenet", "folder")
_CIFAR_LICENCE = "none stated"
_CIFAR_CITATION = "Krizhevsky. Learning multiple layers of features from tiny images. 2009"


@dataclass(frozen=True)
class SourceFacts:
    """Source facts are what is known of a source before any of its images is here.

    Attributes:
        what: one line.
        licence: of the data, in a few words.
        citation: whom to cite.
        get: the command that brings it, or that nothing is needed.
        num_classes: of the whole set; None if it depends.
    """

    what: str
    licence: str
    citation: str
    get: str
    num_classes: int | None = None


SOURCES: dict[str, SourceFacts] = {
    "omniglot": SourceFacts(
        "handwritten characters of 50 alphabets, 20 drawers each",
        "MIT (Brenden Lake)",
        "Lake, Salakhutdinov, Tenenbaum. Human-level concept learning through probabilistic program "
        "induction. Science 2015",
        "mamlcli data fetch omniglot",
        1623,
    ),
    "cifar-fs": SourceFacts(
        "CIFAR-100, its classes split at random",
        _CIFAR_LICENCE,
        f"{_CIFAR_CITATION}; split: Bertinetto et al. arXiv:1805.08136",
        "mamlcli data fetch cifar-fs",
        100,
    ),
    "fc100": SourceFacts(
        "CIFAR-100, its classes split by superclass",
        _CIFAR_LICENCE,
        f"{_CIFAR_CITATION}; split: Oreshkin et al. arXiv:1805.10123",
        "mamlcli data fetch fc100",
        100,
    ),
    "mini-imagenet": SourceFacts(
        "100 classes of ImageNet, 600 photographs each",
        "for research only",
        "Vinyals et al. arXiv:1606.04080; split: Ravi and Larochelle. ICLR 2017",
        "mamlcli data import mini-imagenet DIR",
        100,
    ),
    "folder": SourceFacts("any folder of class folders", "of the images", "", "mamlcli data import folder DIR"),
    "glyphs": SourceFacts(
        "letters of many scripts, drawn when they are used", "free (DejaVu fonts)", "", "nothing to do: drawn when used"
    ),
    "linear-regression": SourceFacts("synthetic", "", "", "nothing to do: computed"),
    "logistic": SourceFacts("synthetic", "", "", "nothing to do: computed"),
    "sinusoid": SourceFacts("synthetic", "", "", "nothing to do: computed"),
}


def how_to_get(source: str) -> str:
    """Return the commands that make the pack of a source: from a download, where there is one, and from a copy."""
    commands = [command("data", "import", source, "PATH")]
    if source in FETCHABLE:
        commands.insert(0, command("data", "fetch", source))
    return ", or with a copy of the data: ".join(commands)


@dataclass(frozen=True)
class ImportReport:
    """An import report says which pack an import made, and what it left out.

    Attributes:
        path: the pack's file.
        pack: what is in it.
        preprocessing: how the files became arrays.
        skipped: (file, reason) for everything that was not taken.
        notes: what else is worth a warning, each one sentence.
    """

    path: Path
    pack: Pack
    preprocessing: Preprocessing
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        return len(self.pack.images)

    @property
    def num_classes(self) -> int:
        return self.pack.num_classes


def import_source(
    source: str,
    path: Path,
    target: Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    invert: str = "auto",
    class_level: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Make a pack from files on this machine, in any of the layouts of `docs/data.md`.

    Args:
        source: one of `IMPORTABLE`.
        path: a folder, an archive or a pickle.
        target: the pack to write. Archives are unpacked in its folder, in one that is removed at the end.
        size: height and width; by default 28 for Omniglot, 84 for mini-ImageNet, 32 for CIFAR-100, and for a folder
            the median shorter side of its pictures, at most 84.
        channels: 1 or 3; by default 1 for Omniglot, else 3.
        invert: "yes", "no", or "auto": grey images on bright ground are inverted, decided once for the whole set.
        class_level: of a folder, how deep the class folders are in it, or in its folders of splits: 1 for those right
            there; None finds it out.
        force: whether a pack that is there may be replaced.
        progress: is called with (files read, files in all).

    Raises:
        DataError: nothing usable at `path`, the target is there, or an option does not suit the source.
    """
    require_source(source, IMPORTABLE, "import")
    require_free(target, force=force)
    options = ImageOptions(size, channels, invert, class_level)
    _check_options(source, options)
    with unpacking(path, target.parent) as scratch:
        found = read_layout(source, path, options=options, scratch=scratch, progress=progress)
        pack = _pack(source, found)
        save_pack(pack, target)
    skipped = tuple((as_typed(file, scratch, path), as_typed(reason, scratch, path)) for file, reason in found.skipped)
    notes = (*found.notes, *_foreign_classes(source, pack.class_names))
    return ImportReport(target, pack, found.preprocessing, skipped, notes)


def pack_of_tree(
    source: str,
    path: Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    invert: str = "auto",
    class_level: int | None = None,
    progress: Progress | None = None,
) -> tuple[Pack, list[tuple[str, str]]]:
    """Read a folder of image files to a pack in memory; arguments and errors as in `import_source`.

    Returns:
        The pack, and (file, reason) for everything that was not taken.
    """
    options = ImageOptions(size, channels, invert, class_level)
    _check_options(source, options)
    found = read_layout(source, path, options=options, progress=progress)
    return _pack(source, found), found.skipped


def _foreign_classes(source: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a warning where classes have names that the source does not have."""
    known = known_names(source)
    foreign = [name for name in names if name not in known] if known else []
    if not foreign:
        return ()
    some = ", ".join(shown(name) for name in foreign[:5]) + (", ..." if len(foreign) > 5 else "")
    count = "None of the classes is one" if len(foreign) == len(names) else f"{len(foreign)} classes are none"
    return (f"{count} of {source}: {some}. Its class names are like {', '.join(sorted(known)[:3])}",)


def require_source(source: str, known: tuple[str, ...], verb: str) -> None:
    """Raise DataError if a command cannot do its work for a source."""
    if source in known:
        return
    facts = SOURCES.get(source)
    raise DataError(
        command("data", verb),
        expected=f"one of {', '.join(known)}",
        got=repr(source),
        why=None if facts else nearest(source, known).strip(),
        next_step=f"For {source}: {facts.get}" if facts else "Run: mamlcli data ls",
    )


def require_free(target: Path, *, force: bool) -> None:
    """Raise DataError if a pack is there and may not be replaced."""
    if target.exists() and not force:
        raise DataError(
            str(target),
            expected="a pack name that is free",
            got=_what_is_there(target),
            next_step="Use --force to replace it, or give another name: --name NAME",
        )


def _what_is_there(target: Path) -> str:
    try:
        header = read_header(target)
    except DataError:
        return "a file that exists"
    return f"a pack of {header.num_images} images of {header.num_classes} classes"


def _check_options(source: str, options: ImageOptions) -> None:
    if options.size is not None and not 1 <= options.size <= 1024:
        raise DataError("--size", expected="an integer from 1 to 1024", got=str(options.size))
    if options.channels not in (None, 1, 3):
        raise DataError("--channels", expected="1 or 3", got=str(options.channels))
    if options.invert not in INVERT_CHOICES:
        raise DataError("--invert", expected=f"one of {', '.join(INVERT_CHOICES)}", got=repr(options.invert))
    if options.class_level is not None and (options.class_level < 1 or source != "folder"):
        raise DataError(
            "--class-level", expected="an integer >= 1, with the source folder", got=f"{options.class_level}, {source}"
        )


def _pack(source: str, found: ImageSet) -> Pack:
    facts = SOURCES[source]
    record: dict[str, object] = {
        "name": source,
        "licence": facts.licence,
        "citation": facts.citation,
        "preprocessing": found.preprocessing.to_dict(),
    }
    if found.class_splits is not None:
        record["class_splits"] = found.class_splits
    groups = tuple(found.class_groups[name] for name in found.class_names) if found.class_groups else None
    return Pack(found.images, found.labels, found.class_names, groups, PackSource(record))


def pack_path(source: str, path: Path, *, name: str | None = None, force: bool = False) -> Path:
    """Return the file of an import's pack: `name`, else the source's name, or for a folder that of the folder or file.

    Raises:
        DataError: the name is none of a pack; or, with `force`, a pack is there that the user has not named: one of
            another source, or one whose name is not quite that of the folder.
    """
    chosen = check_name(name or default_name(source, path), source)
    target = data_dir() / f"{chosen}.npz"
    if force and name is None and source == "folder" and target.is_file():
        is_of_folder = _recorded_source(target) in (source, None)
        if not is_of_folder or chosen != _typed_name(path):
            raise DataError(
                str(target),
                expected="--name with --force",
                got="--force alone",
                why=f"There is {_what_is_there(target)}, and it may be another than you mean",
                next_step=f"To replace it: --name {chosen} --force",
            )
    return target


def _recorded_source(target: Path) -> str | None:
    try:
        return read_header(target).source.name
    except DataError:
        return None


def _typed_name(path: Path) -> str:
    # Absolute, for "." has no name of its own; not resolved, for a link's name is the one that was typed.
    typed = Path(os.path.abspath(path))
    return composed(archive_stem(typed) or (typed.stem if typed.suffix.lower() in PICKLE_SUFFIXES else typed.name))


def default_name(source: str, path: Path) -> str:
    """Return the pack name of an import: the source's name, or that of the folder, the archive or the pickle."""
    if source != "folder":
        return source
    return re.sub(r"[^\w.-]+", "-", _typed_name(path)).strip("-.") or "folder"


def check_name(name: str, source: str) -> str:
    """Return a pack name after checking it.

    Raises:
        DataError: it is no plain file name, or is the name of another source.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise DataError("--name", expected="letters, digits, '-', '_' and '.'", got=repr(name))
    if name in SOURCES and name != source:
        raise DataError(
            "--name", expected="a name that no other source has", got=repr(name), next_step="Give another: --name NAME"
        )
    return name
