"""Lists of class names beside class folders."""

from __future__ import annotations

import pytest

from mamlcli.tasks.images.class_lists import read_class_lists

CLASSES = {"ant", "bee", "cat", "dog"}


def write(folder, **lists):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)


@pytest.mark.parametrize("place", [".", "split", "splits", "splits/bertinetto"])
def test_lists_say_the_split_of_classes(tmp_path, place):
    write(tmp_path / place, train="bee\nant\r\n", val=" cat \n", test="dog\neel")
    splits, files = read_class_lists(tmp_path, CLASSES)
    assert splits == {"train": ["ant", "bee"], "validation": ["cat"], "test": ["dog"]}
    assert {file.name for file in files} == {"train.txt", "val.txt", "test.txt"}


def test_lists_of_other_things_are_none(tmp_path):
    write(tmp_path, train="1 2 3\n", test="4\n")
    assert read_class_lists(tmp_path, CLASSES) is None
    assert read_class_lists(tmp_path / "none", CLASSES) is None


def test_lists_that_name_a_class_twice_split_images_and_not_classes(tmp_path):
    write(tmp_path, train="ant\nbee\n", test="ant\n")
    assert read_class_lists(tmp_path, CLASSES) is None


def test_two_sets_of_lists_leave_the_choice_to_the_user(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "splits" / name, train="ant\n", test="bee\n")
    assert read_class_lists(tmp_path, CLASSES) is None
