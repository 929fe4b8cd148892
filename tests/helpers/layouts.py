"""The layouts in which image sets are passed on: the table of them in docs/data.md, and each made small.

`python -m tests.helpers.layouts docs/data.md` writes the table.
"""

from __future__ import annotations

import csv
import pickle
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamlcli.tasks.images.known_classes import numbered_classes
from tests.helpers.image_files import (
    cifar_archive,
    cifar_files,
    class_folders,
    noise,
    omniglot_folders,
    python2_pickle,
    save,
)

# Four classes of the source, two of which are in meta-train.
WNIDS = {"train": ["n01532829", "n01558993"], "validation": ["n01855672"], "test": ["n01930112"]}
CIFAR_FS = {"train": ["apple", "bear"], "validation": ["cattle"], "test": ["baby"]}
FC100 = numbered_classes("fc100")
BIRDS = {"train": ["ant", "bee"], "validation": ["cat"], "test": ["dog"]}
LETTERS = ["Greek/character01", "Greek/character02", "Tibetan/character01", "Tibetan/character02"]
SHORT = {"train": "train", "validation": "val", "test": "test"}
NUM_IMAGES = 3


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        looks: what the files look like, as in the document.
        command: imports them, run in the folder that `make` gets.
        out: what comes out, as in the document.
        make: makes the files.
        classes: the names of the classes that come out.
        splits: class names by split where the files or published lists say it; None where a seed draws them.
        groups: the groups of the classes.
    """

    looks: str
    command: str
    out: str
    make: Callable[[Path], object]
    classes: Sequence[str]
    splits: Mapping[str, Sequence[str]] | None = None
    groups: Mapping[str, str] | None = None

    @property
    def words(self) -> list[str]:
        """The words of the command behind `mamlcli data`."""
        return shlex.split(self.command)[2:]


def names(splits: Mapping[str, Sequence[str]]) -> list[str]:
    return sorted(name for of_split in splits.values() for name in of_split)


def in_splits(root: Path, splits: Mapping[str, Sequence[str]], **folders: str) -> None:
    for split, classes in splits.items():
        class_folders(root / folders.get(split, SHORT[split]), classes)


def flat(root: Path, splits: Mapping[str, Sequence[str]], lists: str = ".") -> None:
    """Write images/CLASS00001.png and the lists of the splits."""
    (root / lists).mkdir(parents=True, exist_ok=True)
    for split, classes in splits.items():
        with (root / lists / f"{SHORT[split]}.csv").open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["filename", "label"])
            for name in classes:
                for number in range(NUM_IMAGES):
                    file = f"{name}{number:08d}.png"
                    save(root / "images" / file, noise(12, 12, 3, seed=len(file) + number))
                    rows.writerow([file, name])


def cache(classes: Sequence[str], side: int = 84) -> dict[str, object]:
    """Return image_data and class_dict."""
    images = noise(NUM_IMAGES * len(classes), side, side, 3)
    numbers = range(len(images))
    members = {name: list(numbers[row :: len(classes)]) for row, name in enumerate(classes)}
    return {"image_data": images, "class_dict": members}


def labelled(numbers: Sequence[int], side: int = 32, **names: dict[str, int]) -> dict[str, object]:
    """Return data and labels."""
    labels = [number for number in numbers for _ in range(NUM_IMAGES)]
    return {"data": noise(len(labels), side, side, 3), "labels": labels, **names}


def dump(path: Path, value: object, protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))


def zipped(archive: Path, folder: Path) -> None:
    """Move a folder into an archive in which it is the top."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))
    shutil.rmtree(folder)


def _caches(root: Path) -> None:
    for split, classes in WNIDS.items():
        python2_pickle(root / "caches" / f"mini-imagenet-cache-{SHORT[split]}.pkl", cache(classes))


def _category_splits(root: Path) -> None:
    files = {"train_phase_train": "train", "train_phase_val": "train", "val": "validation", "test": "test"}
    for file, split in files.items():
        number = {name: row for row, name in enumerate(WNIDS[split])}
        value = labelled(list(number.values()), 84, catname2label=number)
        dump(root / "MiniImagenet" / f"miniImageNet_category_split_{file}.pickle", value, 2)


def _cifar_fs(root: Path) -> None:
    class_folders(root / "cifar100" / "data", names(CIFAR_FS), side=32)
    lists = root / "cifar100" / "splits" / "bertinetto"
    lists.mkdir(parents=True)
    for split, classes in CIFAR_FS.items():
        (lists / f"{SHORT[split]}.txt").write_text("\n".join(classes))


def _fc100_pickles(root: Path) -> None:
    for split, classes in FC100.items():
        dump(root / "FC100" / f"FC100_{SHORT[split]}.pickle", labelled(sorted(classes)), 2)


def _nameless_pickles(root: Path) -> None:
    for split, numbers in {"train": [0, 1], "validation": [64], "test": [80]}.items():
        dump(root / "CIFAR-FS" / f"CIFAR_FS_{SHORT[split]}.pickle", labelled(numbers))


def _omniglot_sets(root: Path) -> None:
    omniglot_folders(root / "images_background", alphabets=["Greek"])
    omniglot_folders(root / "images_evaluation", alphabets=["Tibetan"])


def _omniglot_zips(root: Path) -> None:
    _omniglot_sets(root)
    for name in ("images_background", "images_evaluation"):
        zipped(root / f"{name}.zip", root / name)


def _linked(root: Path) -> None:
    class_folders(root / "store", ["ant", "bee", "cat"])
    (root / "linked").mkdir()
    for name in ("ant", "bee", "cat"):
        (root / "linked" / name).symlink_to(root / "store" / name, target_is_directory=True)


def _nas(root: Path) -> None:
    class_folders(root / "nas", ["ant", "bee", "cat", "#recycle/old", "ant/@eaDir/00.png"])


def _cub(root: Path) -> None:
    class_folders(root / "CUB_200_2011" / "images", ["001.Black_footed_Albatross", "002.Laysan_Albatross"])
    for file in ("attributes/certainties.txt", "parts/parts.txt", "images.txt"):
        (root / "CUB_200_2011" / file).parent.mkdir(exist_ok=True)
        (root / "CUB_200_2011" / file).write_text("1 2 3")


FRUIT = {"apple": "fruit", "pear": "fruit", "bear": "carnivores", "wolf": "carnivores"}
SUPERCLASSES = {"cat": "pets", "dog": "pets", "bus": "cars", "van": "cars"}

ROWS = (
    Row(
        "`photos/cat/1.jpg`, also in wrappers: `photos/data/cat/1.jpg`",
        "mamlcli data import folder photos",
        "the folders as classes",
        lambda root: class_folders(root / "photos" / "data", ["ant", "bee", "cat"]),
        ["ant", "bee", "cat"],
    ),
    Row(
        "`birds/train/ant/1.jpg`, `birds/val/`, `birds/test/`",
        "mamlcli data import folder birds",
        "the classes of the three splits; other folders beside them are left out and listed",
        lambda root: (
            in_splits(root / "birds", BIRDS),
            (root / "birds" / "annotations").mkdir(),
            (root / "birds" / "annotations" / "1.xml").write_text("<a/>"),
        ),
        names(BIRDS),
        BIRDS,
    ),
    Row(
        "`base/`, `val/`, `novel/`, or `meta_train/`, `dev/`, `images_background/` and the like",
        "mamlcli data import folder fish",
        "the same",
        lambda root: in_splits(root / "fish", BIRDS, train="base", test="novel"),
        names(BIRDS),
        BIRDS,
    ),
    Row(
        "`CUB_200_2011/images/001.Black_footed_Albatross/1.jpg` beside `attributes/` and `parts/`",
        "mamlcli data import folder CUB_200_2011",
        "the folders in `images/` as classes",
        _cub,
        ["001.Black_footed_Albatross", "002.Laysan_Albatross"],
    ),
    Row(
        "superclasses: `zoo/pets/cat/1.jpg`",
        "mamlcli data import folder zoo",
        "the folders with images as classes, those above as their groups",
        lambda root: [class_folders(root / "zoo" / group, [name]) for name, group in SUPERCLASSES.items()],
        sorted(SUPERCLASSES),
        None,
        SUPERCLASSES,
    ),
    Row(
        "links: `linked/cat`, a symbolic link to a folder elsewhere",
        "mamlcli data import folder linked",
        "the links as classes; a link to a folder that it lies in is left out",
        _linked,
        ["ant", "bee", "cat"],
    ),
    Row(
        "`nas/cat/1.jpg` and what systems leave: `@eaDir/`, `#recycle/`, `Thumbs.db`, `.DS_Store`",
        "mamlcli data import folder nas",
        "the same as without; what is left out is listed",
        _nas,
        ["ant", "bee", "cat"],
    ),
    Row(
        "`birds.zip`, or `.tar`, `.tar.gz`, of any of these",
        "mamlcli data import folder birds.zip",
        "what the folder in it gives",
        lambda root: (in_splits(root / "birds", BIRDS), zipped(root / "birds.zip", root / "birds")),
        names(BIRDS),
        BIRDS,
    ),
    Row(
        "`flowers/images/1.jpg` and `flowers/split/train.csv`, `val.csv`, `test.csv` with file names and classes",
        "mamlcli data import folder flowers",
        "the classes of the three lists",
        lambda root: flat(root / "flowers", BIRDS, "split"),
        names(BIRDS),
        BIRDS,
    ),
    Row(
        "`mine.pkl`: a dictionary of `image_data` and `class_dict`, or of `data` and `labels`",
        "mamlcli data import folder mine.pkl",
        "its classes, at the size that the images have",
        lambda root: dump(root / "mine.pkl", cache(["ant", "bee", "cat"], 20)),
        ["ant", "bee", "cat"],
    ),
    Row(
        "`omniglot/images_background/Greek/character01/1.png` and `images_evaluation/`",
        "mamlcli data import omniglot omniglot",
        "characters as classes, alphabets as groups; `data/` beside `splits/` gives the same",
        lambda root: _omniglot_sets(root / "omniglot"),
        LETTERS,
        {"train": LETTERS[:2], "validation": [], "test": LETTERS[2:]},
        {name: name.partition("/")[0] for name in LETTERS},
    ),
    Row(
        "`zips/images_background.zip` and `zips/images_evaluation.zip`, as downloaded",
        "mamlcli data import omniglot zips",
        "the same; `images_background_small1.zip` is left out",
        lambda root: (_omniglot_zips(root / "zips"), (root / "zips" / "images_background_small1.zip").write_text("x")),
        LETTERS,
        {"train": LETTERS[:2], "validation": [], "test": LETTERS[2:]},
        {name: name.partition("/")[0] for name in LETTERS},
    ),
    Row(
        "one of them alone",
        "mamlcli data import omniglot images_background.zip",
        "its 30 alphabets; `mamlcli train folder tasks.path=PACK` draws splits",
        _omniglot_zips,
        LETTERS[:2],
        {"train": LETTERS[:2], "validation": [], "test": []},
        dict.fromkeys(LETTERS[:2], "Greek"),
    ),
    Row(
        "`mini/processed_images/train/n01532829/1.jpg`, class folders at any depth",
        "mamlcli data import mini-imagenet mini",
        "the classes of mini-ImageNet; others are left out",
        lambda root: in_splits(root / "mini" / "processed_images", WNIDS),
        names(WNIDS),
        WNIDS,
    ),
    Row(
        "`mini/images/n0153282900000005.jpg`, 60,000 of them, and `train.csv`, `val.csv`, `test.csv`",
        "mamlcli data import mini-imagenet mini-flat",
        "the classes of the lists",
        lambda root: flat(root / "mini-flat", WNIDS),
        names(WNIDS),
        WNIDS,
    ),
    Row(
        "`mini-imagenet-cache-train.pkl`, `-val.pkl`, `-test.pkl`",
        "mamlcli data import mini-imagenet caches",
        "the classes of the three files",
        _caches,
        names(WNIDS),
        WNIDS,
    ),
    Row(
        "one of them alone",
        "mamlcli data import mini-imagenet mini-imagenet-cache-train.pkl",
        "64 classes, and a command that splits them by a seed and trains on them",
        lambda root: python2_pickle(root / "mini-imagenet-cache-train.pkl", cache(WNIDS["train"])),
        WNIDS["train"],
        {"train": WNIDS["train"], "validation": [], "test": []},
    ),
    Row(
        "`miniImageNet_category_split_train_phase_train.pickle`, `_val.pickle`, `_test.pickle`",
        "mamlcli data import mini-imagenet MiniImagenet",
        "the classes that `catname2label` names; other images of the meta-train classes are left out",
        _category_splits,
        names(WNIDS),
        WNIDS,
    ),
    Row(
        "`cifar100/data/apple/1.png` and `cifar100/splits/bertinetto/train.txt`",
        "mamlcli data import cifar-fs cifar100",
        "the classes of CIFAR-FS",
        _cifar_fs,
        names(CIFAR_FS),
        CIFAR_FS,
    ),
    Row(
        "`cifar100.zip`, as downloaded",
        "mamlcli data import cifar-fs cifar100.zip",
        "the same",
        lambda root: (_cifar_fs(root), zipped(root / "cifar100.zip", root / "cifar100")),
        names(CIFAR_FS),
        CIFAR_FS,
    ),
    Row(
        "`CIFAR_FS_train.pickle`, `CIFAR_FS_val.pickle`, `CIFAR_FS_test.pickle`, which name no classes",
        "mamlcli data import cifar-fs CIFAR-FS",
        "classes train-00, train-01, ..., named by split and number; the splits are those of the files",
        _nameless_pickles,
        ["test-80", "train-00", "train-01", "validation-64"],
        {"train": ["train-00", "train-01"], "validation": ["validation-64"], "test": ["test-80"]},
    ),
    Row(
        "`FC100_train.pickle`, `FC100_val.pickle`, `FC100_test.pickle`",
        "mamlcli data import fc100 FC100",
        "the classes of FC100, whose numbers are those of CIFAR-100",
        _fc100_pickles,
        sorted(name for of_split in FC100.values() for name in of_split.values()),
        {split: list(of_split.values()) for split, of_split in FC100.items()},
    ),
    Row(
        "`cifar-100-python.tar.gz` or its folder, as downloaded",
        "mamlcli data import cifar-fs cifar-100-python.tar.gz",
        "CIFAR-100, split as CIFAR-FS; as FC100 with `fc100`",
        lambda root: cifar_archive(root / "cifar-100-python.tar.gz", cifar_files(root / "unpacked")),
        sorted(FRUIT),
        {"train": sorted(FRUIT), "validation": [], "test": []},
        FRUIT,
    ),
)

START = "| what it looks like | command | what comes out |\n|---|---|---|\n"


def table() -> str:
    """Return the table of docs/data.md."""
    return START + "".join(f"| {row.looks} | `{row.command}` | {row.out} |\n" for row in ROWS)


def with_table(document: str) -> str:
    """Return a document with the table in the place of the one that it has."""
    before, rest = document.split(START)
    lines = rest.splitlines(keepends=True)
    while lines and lines[0].startswith("|"):
        del lines[0]
    return before + table() + "".join(lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
