"""Which folders are classes, splits, groups or parts of a class; what is not clear is refused, and named."""

import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.folders import open_folder
from mamlcli.tasks.images.levels import classes_by_split
from tests.helpers.tree_layouts import below, images


def found(root, **options):
    """Return (class, group) by split."""
    classes = classes_by_split(open_folder(root), [], **options)
    return {split: [(one.name, one.group) for one in of_split] for split, of_split in classes.items()}


REFUSED = {
    "Omniglot as any folder": (
        images(*below("Greek Korean", "character01", "character02")),
        r"Greek: expected images, or folders of names that are not in other folders as well, as character01 is, got 2",
    ),
    "one class a level deeper": (
        images("ant", "bee", "birds/robin", "birds/wren"),
        r"birds: expected images, as in .*ant, got 2 folders with images: robin, wren",
    ),
    "domains": (
        images(*below("photo sketch", "cat", "dog")),
        r"photo: .* names that are not in other folders as well, as cat is",
    ),
    "two data sets": (
        images(*below("a b", "train/cat", "test/dog")),
        r"a: expected class folders, got folders of splits, and b beside it",
    ),
    "a split that is misspelt": (
        images("train/ant", "train/bee", "test/cat", "vali/dog", "vali/eel"),
        r"vali: expected no class folders beside those of the splits \(train, test\), got 2 folders",
    ),
    "splits of images": (images("train", "test"), r"expected class folders in test, train, got images"),
    "splits of images/": (images("train/images", "test/images"), r"expected class folders in test, train, got images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_folders_that_may_mean_two_things_are_refused_by_name(tmp_path, name):
    make, message = REFUSED[name]
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        found(tmp_path)


def test_class_level_decides_where_it_is_not_clear(tmp_path):
    images(*below("Greek Korean", "character01", "character02"))(tmp_path)
    assert found(tmp_path, class_level=1) == {"all": [("Greek", None), ("Korean", None)]}
    assert found(tmp_path, class_level=2) == {
        "all": [
            ("Greek/character01", "Greek"),
            ("Greek/character02", "Greek"),
            ("Korean/character01", "Korean"),
            ("Korean/character02", "Korean"),
        ]
    }


def test_images_above_the_class_level_are_listed(tmp_path):
    images("cat", "birds/robin", "birds/wren")(tmp_path)
    skipped = []
    classes = classes_by_split(open_folder(tmp_path), skipped, class_level=2)
    assert [one.name for one in classes["all"]] == ["robin", "wren"]
    assert skipped == [(str(tmp_path / "cat" / f"{i}.jpg"), "not in a class folder") for i in range(2)]


def test_class_level_counts_from_the_folders_of_splits(tmp_path):
    images("train/ant/a", "train/ant/b", "test/bee/c", "test/bee/d")(tmp_path)
    assert found(tmp_path, class_level=1) == {"train": [("ant", None)], "validation": [], "test": [("bee", None)]}


def test_groups_are_the_folders_right_above_the_classes(tmp_path):
    images(
        "animals/pets/cat",
        "animals/pets/dog",
        "animals/fish/eel",
        "animals/fish/cod",
        "things/cars/bus",
        "things/cars/van",
    )(tmp_path)
    assert dict(found(tmp_path)["all"]) == {
        "cat": "pets",
        "dog": "pets",
        "eel": "fish",
        "cod": "fish",
        "bus": "cars",
        "van": "cars",
    }


def test_folders_of_one_image_each_are_no_classes(tmp_path):
    make = images("cat/obs1", "cat/obs2", "dog/obs3", "dog/obs4")
    make(tmp_path)
    assert [name for name, _ in found(tmp_path)["all"]] == ["obs1", "obs2", "obs3", "obs4"]
    for path in tmp_path.rglob("1.jpg"):
        path.unlink()
    assert found(tmp_path) == {"all": [("cat", None), ("dog", None)]}
