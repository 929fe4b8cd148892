"""List the sources of image sets, and import files of theirs as packs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mamlcli.common.errors import DataError
from mamlcli.common.words import nearest
from mamlcli.tasks.images.cifar import IMAGE_SIZE as CIFAR_SIZE
from mamlcli.tasks.images.cifar import read_cifar
from mamlcli.tasks.images.class_splits import published_classes
from mamlcli.tasks.images.packs import Pack, PackSource, save_pack
from mamlcli.tasks.images.reading import Preprocessing
from mamlcli.tasks.images.tree_reading import Progress, ReadTree, default_size, read_tree
from mamlcli.tasks.images.trees import ImageTree, class_folder_tree, mini_imagenet_tree, omniglot_tree

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


@dataclass(frozen=True)
class ImportReport:
    """An import report says which pack an import made, and what it left out.

    Attributes:
        path: the pack.
        num_images: images in it.
        num_classes: classes in it.
        preprocessing: how the files became arrays.
        skipped: (file, reason) for everything that was not taken.
    """

    path: Path
    num_images: int
    num_classes: int
    preprocessing: Preprocessing
    skipped: tuple[tuple[str, str], ...]


def import_source(
    source: str,
    path: Path,
    target: Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    invert: str = "auto",
    force: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Make a pack from files on this machine.

    Args:
        source: one of `IMPORTABLE`.
        path: the folder; for CIFAR-100 also the archive.
        target: the pack to write.
        size: height and width; by default 28 for Omniglot, 84 for mini-ImageNet, and for a folder the median
            shorter side of its pictures, at most 84.
        channels: 1 or 3; by default 1 for Omniglot, else 3.
        invert: "yes", "no", or "auto": grey images on bright ground are inverted, decided once for the whole set.
        force: whether a pack that is there may be replaced.
        progress: is called with (files read, files in all).

    Raises:
        DataError: nothing usable at `path`, the target is there, or an option does not suit the source.
    """
    require_source(source, IMPORTABLE, "import")
    require_free(target, force=force)
    if source in ("cifar-fs", "fc100"):
        _refuse_options(source, size=size, channels=channels, invert=invert)
        pack, skipped = _cifar_pack(source, path), list[tuple[str, str]]()
    else:
        pack, skipped = pack_of_tree(source, path, size=size, channels=channels, invert=invert, progress=progress)
    save_pack(pack, target)
    preprocessing = Preprocessing.from_dict(pack.source.preprocessing)
    return ImportReport(target, len(pack.images), pack.num_classes, preprocessing, tuple(skipped))


def pack_of_tree(
    source: str,
    path: Path,
    *,
    size: int | None = None,
    channels: int | None = None,
    invert: str = "auto",
    progress: Progress | None = None,
) -> tuple[Pack, list[tuple[str, str]]]:
    """Read a folder of image files to a pack in memory; arguments and errors as in `import_source`.

    Returns:
        The pack, and (file, reason) for everything that was not taken.
    """
    _check_options(size=size, channels=channels, invert=invert)
    tree = _tree(source, path)
    images = read_tree(
        tree,
        size=size or {"omniglot": 28, "mini-imagenet": 84}.get(source) or default_size(tree),
        channels=channels or (1 if source == "omniglot" else 3),
        invert={"auto": None, "yes": True, "no": False}[invert],
        # The released MAML code, data/miniImagenet/proc_images.py, resizes to 84x84 without cropping.
        fit="stretch" if source == "mini-imagenet" else "center-crop",
        progress=progress,
    )
    return _tree_pack(source, tree, images), tree.skipped


def require_source(source: str, known: tuple[str, ...], verb: str) -> None:
    """Raise DataError if a command cannot do its work for a source."""
    if source in known:
        return
    facts = SOURCES.get(source)
    raise DataError(
        f"mamlcli data {verb}",
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
            got="a file that exists",
            next_step="Use --force to replace it",
        )


def _refuse_options(source: str, *, size: int | None, channels: int | None, invert: str) -> None:
    if size is not None or channels is not None or invert != "auto":
        raise DataError(
            f"mamlcli data import {source}",
            expected="no --size, --channels or --invert",
            got="at least one of them",
            why="CIFAR-100 is packed as it is distributed: 32x32, RGB",
        )


def _check_options(*, size: int | None, channels: int | None, invert: str) -> None:
    if size is not None and not 1 <= size <= 1024:
        raise DataError("--size", expected="an integer from 1 to 1024", got=str(size))
    if channels not in (None, 1, 3):
        raise DataError("--channels", expected="1 or 3", got=str(channels))
    if invert not in INVERT_CHOICES:
        raise DataError("--invert", expected=f"one of {', '.join(INVERT_CHOICES)}", got=repr(invert))


def _tree(source: str, path: Path) -> ImageTree:
    if source == "omniglot":
        return omniglot_tree(path)
    if source == "mini-imagenet":
        return mini_imagenet_tree(path, wnids=_mini_imagenet_wnids())
    return class_folder_tree(path)


def _mini_imagenet_wnids() -> frozenset[str]:
    return frozenset(name for names in published_classes("mini_imagenet").values() for name in names)


def _source_record(source: str, preprocessing: Preprocessing) -> dict[str, object]:
    facts = SOURCES[source]
    return {
        "name": source,
        "licence": facts.licence,
        "citation": facts.citation,
        "preprocessing": preprocessing.to_dict(),
    }


def _tree_pack(source: str, tree: ImageTree, images: ReadTree) -> Pack:
    record = _source_record(source, images.preprocessing)
    if tree.class_splits is not None:
        usable = set(images.class_names)
        record["class_splits"] = {
            split: [name for name in names if name in usable] for split, names in tree.class_splits.items()
        }
    groups = tuple(tree.groups[name] for name in images.class_names) if tree.groups else None
    return Pack(images.images, images.labels, tuple(images.class_names), groups, PackSource(record))


def _cifar_pack(source: str, path: Path) -> Pack:
    cifar = read_cifar(path)
    record = _source_record(source, Preprocessing(size=CIFAR_SIZE, channels=3))
    return Pack(cifar.images, cifar.labels, cifar.class_names, cifar.class_groups, PackSource(record))


def default_name(source: str, path: Path) -> str:
    """Return the pack name of an import: the source's name, or for a folder the folder's."""
    if source != "folder":
        return source
    return re.sub(r"[^\w.-]+", "-", os.path.basename(os.path.abspath(path))).strip("-.") or "folder"


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
