"""Lists of images beside one folder with all of them."""

from __future__ import annotations

import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.csv_lists import csv_lists, csv_tree
from tests.helpers.image_files import noise, save

LISTS = {
    "train": "filename,label\n1.png,ant\n2.png,bee\n",
    "val": "3.png,cat\n",
    "test": "\ufefffilename,label\n4.png,dog\n",
}
WANTED = {"ant": ["1.png"], "bee": ["2.png"], "cat": ["3.png"], "dog": ["4.png"]}


def made(root, lists=".", images="images", texts=LISTS):
    for number in range(1, 5):
        save(root / images / f"{number}.png", noise(4, 4, 3, seed=number))
    (root / lists).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (root / lists / f"{name}.csv").write_text(text, encoding="utf-8")
    return root


def tree(root):
    found = csv_tree(root, csv_lists(root))
    return found, {name: [path.name for path in files] for name, files in found.files.items()}


@pytest.mark.parametrize("lists", [".", "split", "splits", "mini", "mini/split"])
@pytest.mark.parametrize("images", ["images", "."])
def test_lists_and_images_are_found_where_they_are_usual(tmp_path, lists, images):
    above = "mini" if lists.startswith("mini") else "."
    made(tmp_path, lists, f"{above}/{images}")
    found, files = tree(tmp_path)
    assert files == WANTED
    assert found.class_splits == {"train": ["ant", "bee"], "validation": ["cat"], "test": ["dog"]}
    assert found.skipped == []


@pytest.mark.parametrize(
    "text",
    [
        "label,filename\nant,1.png\n",
        "id,class_name,image_name\n7,ant,1.png\n",
        "1.png,ant\n",
        '"1.png","ant"\n',
        "1.png, ant \n",
    ],
)
def test_columns_are_found_by_their_names_or_their_order(tmp_path, text):
    made(tmp_path, texts={"train": text, "test": "4.png,dog\n"})
    assert tree(tmp_path)[1] == {"ant": ["1.png"], "dog": ["4.png"]}


def test_files_that_are_not_there_are_counted_in_one_line(tmp_path):
    made(tmp_path, texts={"train": "1.png,ant\n8.png,ant\n9.png,bee\n", "test": "4.png,dog\n"})
    found, files = tree(tmp_path)
    assert files == {"ant": ["1.png"], "dog": ["4.png"]}
    assert found.skipped == [(str(tmp_path / "train.csv"), "8.png and 1 more named in it and not there")]


def test_one_list_alone_leaves_the_splits_open(tmp_path):
    made(tmp_path, texts={"train": LISTS["train"]})
    assert tree(tmp_path)[0].class_splits is None


def test_lists_of_other_things_are_no_lists_of_images(tmp_path):
    made(tmp_path, texts={"train": "epoch,loss\n1,2\n"})
    assert csv_tree(tmp_path, csv_lists(tmp_path)) is None
    assert csv_lists(tmp_path / "images") == {}


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    save(tmp_path / "secret.png", noise(4, 4, 3))
    made(tmp_path / "set", texts={"train": f"../secret.png,ant\n{tmp_path}/secret.png,ant\n1.png,ant\n"})
    assert tree(tmp_path / "set")[1] == {"ant": ["1.png"]}


def test_a_class_in_two_lists_is_refused(tmp_path):
    made(tmp_path, texts={"train": "1.png,ant\n", "test": "4.png,ant\n"})
    with pytest.raises(DataError, match=r"t\w+\.csv: ant: expected a class that no other list has"):
        tree(tmp_path)
