"""Folders in which image sets are passed on, made small, and the classes that are in them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tests.helpers.image_files import noise

NUM_IMAGES = 2
Make = Callable[[Path], None]


@dataclass(frozen=True)
class Layout:
    """A layout makes a folder of images, and says what an import of it finds.

    Attributes:
        name: what it looks like, in a few words.
        make: makes it in a folder that is there.
        classes: the class names that are found, sorted.
        source: the source it is imported as.
        root: the folder to name to the import, below the one that `make` gets.
        splits: class names under "train", "validation" and "test"; None if the folders do not say.
        groups: the group of each class.
        left_out: names of files and folders that are listed as skipped.
    """

    name: str
    make: Make
    classes: str
    source: str = "folder"
    root: str = "."
    splits: Mapping[str, str] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    left_out: str = ""


def picture(path: Path, seed: int = 0) -> None:
    """Write a tiny picture as PNG, whatever the file is called, with the folders above it."""
    stream = io.BytesIO()
    Image.fromarray(noise(8, 8, 3, seed=seed)).save(stream, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


def images(*folders: str, files: str = "", suffix: str = ".jpg") -> Make:
    """Make two pictures in each folder, and other files, which are of no use."""

    def make(root: Path) -> None:
        for row, folder in enumerate(folders):
            for number in range(NUM_IMAGES):
                picture(root / folder / f"{number}{suffix}", seed=NUM_IMAGES * row + number)
        for file in files.split():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text("1 2 3")

    return make


def below(above: str, *names: str) -> list[str]:
    """Return the folders of those names in each of some folders, separated by spaces."""
    return [f"{folder}/{name}" for folder in above.split() for name in names]


def with_links(make: Make, **targets: str) -> Make:
    """Add links; double underscores in a name part folders."""

    def linked(root: Path) -> None:
        make(root)
        for link, target in targets.items():
            path = root / link.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(root / target, target_is_directory=True)

    return linked


def _three_splits(names: str, files: str = "", *more: str, inside: str = "") -> Make:
    train, validation, test = names.split()
    folders = [*below(train + inside, "ant", "bee"), *below(validation + inside, "cat"), *below(test + inside, "dog")]
    return images(*folders, *more, files=files)


_SPLITS = {"train": "ant bee", "validation": "cat", "test": "dog"}
_BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
_CUB = "CUB_200_2011/attributes/certainties.txt CUB_200_2011/parts/parts.txt CUB_200_2011/images.txt attributes.txt"
_GREEK = "Greek/character01 Greek/character02"
_LETTERS = f"{_GREEK} Korean/character01"
_ALPHABETS = {"Greek/character01": "Greek", "Greek/character02": "Greek", "Korean/character01": "Korean"}
_WNIDS = "n01532829 n01855672 n01930112"


def _letters(above: str, files: str = "", *more: str) -> Make:
    return images(*below(above, *_LETTERS.split()), *more, files=files, suffix=".png")


SPLIT_NAMES = (
    "train val test",
    "base val novel",
    "meta_train meta_val meta_test",
    "MetaTrain MetaVal MetaTest",
    "meta-training meta-validation meta-testing",
    "train dev test",
    "Train Valid Test",
    "train_set val_set test_set",
    "trainset valset testset",
    "images_train images_val images_test",
    "base_classes dev novel_classes",
    "train eval test",
    "trainval dev test",
)

LAYOUTS = (
    *(Layout(f"splits {names}", _three_splits(names), "ant bee cat dog", splits=_SPLITS) for names in SPLIT_NAMES),
    Layout(
        "images_background and images_evaluation of class folders",
        images("images_background/ant", "images_background/bee", "images_evaluation/dog"),
        "ant bee dog",
        splits={"train": "ant bee", "validation": "", "test": "dog"},
    ),
    Layout("class folders", images("ant", "bee", "cat", files="README.md"), "ant bee cat", left_out="README.md"),
    Layout("class folders named as splits, with images in them", images("train", "test", "bus"), "bus test train"),
    Layout(
        "splits beside annotations",
        _three_splits("train val test", "annotations/1.xml README"),
        "ant bee cat dog",
        splits=_SPLITS,
        left_out="annotations README",
    ),
    Layout(
        "splits beside a folder of pictures",
        _three_splits("train val test", "", "figures"),
        "ant bee cat dog",
        splits=_SPLITS,
        left_out="figures",
    ),
    Layout(
        "splits beside all images, and linked to them",
        with_links(
            images("images/ant", "images/bee"), train__ant="images/ant", val__bee="images/bee", test__cat="images/ant"
        ),
        "ant bee",
        splits={"train": "ant", "validation": "bee", "test": ""},
        left_out="images cat",
    ),
    Layout(
        "splits with images/ in each",
        _three_splits("train val test", "train/labels.csv", inside="/images"),
        "ant bee cat dog",
        splits=_SPLITS,
        left_out="labels.csv",
    ),
    Layout(
        "wrapped splits",
        _three_splits("set/set/train set/set/val set/set/test", "set/readme.txt"),
        "ant bee cat dog",
        splits=_SPLITS,
        left_out="readme.txt",
    ),
    Layout("train alone", images("train/ant", "train/bee"), "ant bee"),
    Layout(
        "CUB-200-2011 as unpacked",
        images(*below("CUB_200_2011/images", *_BIRDS), files=_CUB),
        " ".join(_BIRDS),
        left_out="attributes parts images.txt attributes.txt",
    ),
    Layout(
        "CUB-200-2011 with segmentations",
        images(*below("CUB_200_2011/images CUB_200_2011/segmentations", *_BIRDS)),
        " ".join(_BIRDS),
        root="CUB_200_2011",
        left_out="segmentations",
    ),
    Layout("a folder of its own name in itself", images("pets/pets/ant", "pets/pets/bee"), "ant bee", root="pets"),
    Layout("data/ in a wrapper", images("set-main/data/ant", "set-main/data/bee"), "ant bee"),
    Layout("one class in images/", images("images/ant"), "ant"),
    Layout(
        "superclasses",
        images("pets/cat", "pets/dog", "cars/bus", "cars/van", "cars/truck"),
        "bus cat dog truck van",
        groups={"bus": "cars", "van": "cars", "truck": "cars", "cat": "pets", "dog": "pets"},
    ),
    Layout(
        "superclasses in splits, wrapped",
        images("x/train/pets/cat", "x/train/pets/dog", "x/train/cars/bus", "x/test/fish/eel", "x/test/birds/robin"),
        "bus cat dog eel robin",
        splits={"train": "bus cat dog", "validation": "", "test": "eel robin"},
        groups={"bus": "cars", "cat": "pets", "dog": "pets", "eel": "fish", "robin": "birds"},
    ),
    Layout(
        "tiny-imagenet-200 as unpacked",
        images(*below("tiny/train", "n01/images", "n02/images"), "tiny/val/images", "tiny/test/images"),
        "n01 n02",
        left_out="val test",
    ),
    Layout("classes in parts", images("cat/left", "cat/right", "dog/left", "dog/right"), "cat dog"),
    Layout("classes by year", images("cat/2019-05", "cat/2020", "dog/2021", "dog/2022"), "cat dog"),
    Layout("images and folders of images in a class", images("cat", "cat/more", "dog"), "cat dog"),
    Layout(
        "links to class folders",
        with_links(images("store/ant", "store/bee"), set__c="store/ant", set__d="store/bee"),
        "c d",
        root="set",
    ),
    Layout(
        "a linked split",
        with_links(images("a/train/ant", "b/val/bee"), a__val="b/val"),
        "ant bee",
        root="a",
        splits={"train": "ant", "validation": "bee", "test": ""},
    ),
    Layout(
        "a link to what is read",
        with_links(images("s/cat", "s/dog"), s__ant="s/cat"),
        "cat dog",
        root="s",
        left_out="ant",
    ),
    Layout(
        "a NAS and Windows",
        images(
            "cat",
            "dog",
            "cat/@eaDir/0.jpg",
            "#recycle/old",
            "$RECYCLE.BIN/S-1",
            files="cat/Thumbs.db desktop.ini",
        ),
        "cat dog",
        left_out="@eaDir #recycle $RECYCLE.BIN Thumbs.db desktop.ini",
    ),
    Layout(
        "a Mac",
        images("cat", "dog", "__MACOSX/cat", ".Trashes/x", files="cat/._0.jpg .DS_Store"),
        "cat dog",
        left_out="__MACOSX .Trashes ._0.jpg .DS_Store",
    ),
    Layout(
        "notebooks and file systems",
        images("cat", "dog", "cat/.ipynb_checkpoints", "lost+found/x", "dog/.git"),
        "cat dog",
        left_out=".ipynb_checkpoints lost+found .git",
    ),
    Layout("Omniglot's alphabets", _letters("."), _LETTERS, "omniglot", groups=_ALPHABETS),
    Layout(
        "Omniglot's two sets and the strokes",
        images(
            *below("images_background", *_GREEK.split()),
            "images_evaluation/Korean/character01",
            files="strokes_background/Greek/character01/1.txt",
        ),
        _LETTERS,
        "omniglot",
        groups=_ALPHABETS,
        left_out="strokes_background",
    ),
    Layout(
        "Omniglot's two sets, each in itself, in a wrapper",
        images(
            *below("omniglot-master/python/images_background/images_background", *_GREEK.split()),
            "omniglot-master/python/images_evaluation/Korean/character01",
            "omniglot-master/matlab/Greek/character01",
        ),
        _LETTERS,
        "omniglot",
        groups=_ALPHABETS,
        left_out="matlab",
    ),
    Layout(
        "Omniglot with data and splits",
        _letters("omniglot/data", "omniglot/splits/vinyals/train.txt"),
        _LETTERS,
        "omniglot",
        groups=_ALPHABETS,
        left_out="splits",
    ),
    Layout("one set of Omniglot", _letters("images_evaluation"), _LETTERS, "omniglot", groups=_ALPHABETS),
    Layout(
        "one set of Omniglot, named",
        _letters("images_evaluation"),
        _LETTERS,
        "omniglot",
        root="images_evaluation",
        groups=_ALPHABETS,
    ),
    Layout(
        "Omniglot in splits that part alphabets",
        images("train/Greek/character01", "val/Greek/character02", "test/Korean/character01"),
        _LETTERS,
        "omniglot",
        groups=_ALPHABETS,
    ),
    Layout(
        "mini-ImageNet's class folders",
        images(*_WNIDS.split(), "n99999999"),
        _WNIDS,
        "mini-imagenet",
        left_out="n99999999",
    ),
    Layout(
        "mini-ImageNet in splits, wrapped twice",
        images(
            *(
                f"mini/processed_images/{split}/{wnid}"
                for split, wnid in zip(("train", "val", "test"), _WNIDS.split(), strict=True)
            ),
            files="mini/train.csv",
        ),
        _WNIDS,
        "mini-imagenet",
        left_out="train.csv",
    ),
    Layout(
        "mini-ImageNet with words in its names",
        images("n01532829_house_finch/images", "n01855672 goose"),
        "n01532829 n01855672",
        "mini-imagenet",
    ),
)
