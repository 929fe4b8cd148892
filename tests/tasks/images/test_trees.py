"""Folders of image files: which files are of which class; what is not taken is listed, what is unclear is refused."""

import os
import unicodedata

import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.class_splits import published_classes
from mamlcli.tasks.images.packs import load_pack
from mamlcli.tasks.images.sources import import_source, pack_of_tree
from mamlcli.tasks.images.trees import class_folder_tree, mini_imagenet_tree, omniglot_tree
from tests.helpers.image_files import class_folders, noise, omniglot_folders, save
from tests.helpers.tree_layouts import LAYOUTS, NUM_IMAGES, images

WNIDS = frozenset(name for names in published_classes("mini_imagenet").values() for name in names)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def tree_of(source, folder):
    if source == "omniglot":
        return omniglot_tree(folder)
    return mini_imagenet_tree(folder, wnids=WNIDS) if source == "mini-imagenet" else class_folder_tree(folder)


def reasons(tree):
    return {os.path.basename(file): reason for file, reason in tree.skipped}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_classes_groups_and_splits_of_a_layout_are_found_and_the_rest_is_listed(root, layout):
    layout.make(root)
    tree = tree_of(layout.source, root / layout.root)
    assert sorted(tree.files) == sorted(layout.classes.split())
    splits = layout.splits and {split: sorted(names.split()) for split, names in layout.splits.items()}
    assert tree.class_splits == splits
    assert {name: tree.groups[name] for name in tree.files if tree.groups} == layout.groups
    assert set(reasons(tree)) == set(layout.left_out.split())
    assert min(map(len, tree.files.values())) >= NUM_IMAGES


def test_no_picture_of_a_layout_is_in_two_classes(root):
    for layout in LAYOUTS:
        layout.make(root / layout.name)
        files = [
            file for paths in tree_of(layout.source, root / layout.name / layout.root).files.values() for file in paths
        ]
        assert len({os.path.realpath(file) for file in files}) == len(files), layout.name


@pytest.mark.parametrize("above", ["", "omniglot-py"])
def test_omniglot_official_layout_joins_background_and_evaluation(root, above):
    omniglot_folders(root / above / "images_background", alphabets=["Greek"])
    omniglot_folders(root / above / "images_evaluation" / "images_evaluation", alphabets=["ULOG"])
    tree = omniglot_tree(root)
    assert tree.groups == {
        "Greek/character01": "Greek",
        "Greek/character02": "Greek",
        "ULOG/character01": "ULOG",
        "ULOG/character02": "ULOG",
    }
    assert {len(files) for files in tree.files.values()} == {3}


def test_two_copies_of_a_character_are_refused_by_name(root):
    omniglot_folders(root / "data")
    omniglot_folders(root / "resized")
    with pytest.raises(DataError, match=r"two of Greek/character01: .*data.* and .*resized"):
        omniglot_tree(root)


def test_alphabets_are_never_taken_for_characters(root):
    images("Greek", "Korean")(root)
    with pytest.raises(DataError, match="drawings in no folder <alphabet>/<character>"):
        omniglot_tree(root)


def test_mini_imagenet_is_found_below_train_val_and_test(root):
    class_folders(root / "train", ["n01532829"])
    class_folders(root / "val", ["n01855672"])
    class_folders(root / "test", ["n01930112", "n99999999"])
    tree = mini_imagenet_tree(root, wnids=WNIDS)
    assert list(tree.files) == ["n01532829", "n01855672", "n01930112"]
    assert reasons(tree) == {"n99999999": "not a class of mini-ImageNet"}


def test_class_of_mini_imagenet_in_two_folders_is_whole_where_these_are_splits_and_else_refused(root):
    images("train/n01532829", "val/n01532829")(root / "a")
    assert len(mini_imagenet_tree(root / "a", wnids=WNIDS).files["n01532829"]) == 2 * NUM_IMAGES
    images("original/n01532829", "resized/n01532829")(root / "b")
    with pytest.raises(DataError, match=r"two of n01532829: .*original.* and .*resized"):
        mini_imagenet_tree(root / "b", wnids=WNIDS)


def test_class_that_is_in_two_splits_is_refused(root):
    class_folders(root / "train", ["a", "b"])
    class_folders(root / "test", ["a"])
    with pytest.raises(DataError, match="no other split has, got 'a'"):
        class_folder_tree(root)


def test_links_that_loop_are_listed_and_not_followed(root):
    class_folders(root, ["a", "b"])
    (root / "a" / "loop").symlink_to(root)
    (root / "b" / "above").symlink_to(root.parent)
    (root / "everything").symlink_to(root)
    tree = class_folder_tree(root)
    assert (tree.num_files, set(reasons(tree))) == (6, {"loop", "above", "everything"})


def test_linked_image_files_are_taken(root):
    class_folders(root, ["a"])
    (root / "a" / "link.png").symlink_to(root / "a" / "00.png")
    assert class_folder_tree(root).num_files == 4


def test_named_pipe_is_listed_and_not_waited_for(root):
    class_folders(root, ["a"])
    os.mkfifo(root / "a" / "pipe.png")
    tree = class_folder_tree(root)
    assert tree.num_files == 3
    assert reasons(tree) == {"pipe.png": "no regular file, or a link to nothing"}


def test_images_in_folders_below_a_class_belong_to_it(root):
    class_folders(root, ["a"])
    path = save(root / "a" / "more" / "x.png", noise(12, 12, 3))
    assert path in class_folder_tree(root).files["a"]


def test_files_of_a_class_are_ordered_by_name_whether_they_lie_in_a_folder_or_not(root):
    images("cat", "cat/05")(root)
    picture = save(root / "cat" / "9.png", noise(8, 8))
    assert [path.relative_to(root / "cat").as_posix() for path in class_folder_tree(root).files["cat"]] == [
        "0.jpg",
        "05/0.jpg",
        "05/1.jpg",
        "1.jpg",
        picture.name,
    ]


def test_class_names_are_composed_and_so_is_their_order(root):
    names = [unicodedata.normalize("NFD", name) for name in ("\u00e9clair", "zebra", "f\u00eate")]
    images(*names)(root)
    assert list(class_folder_tree(root).files) == ["f\u00eate", "zebra", "\u00e9clair"]


def test_path_that_is_no_folder_is_refused(root):
    with pytest.raises(DataError, match="no such folder"):
        class_folder_tree(root / "missing")
    (root / "file").touch()
    with pytest.raises(DataError, match="got a file"):
        omniglot_tree(root / "file")


@pytest.mark.parametrize("folders", [["pets/images"], ["pets/images", "pets/annotations/trimaps"]])
def test_images_in_folders_of_no_class_are_refused(root, folders):
    images(*folders)(root)
    with pytest.raises(DataError, match=r"class folders with images, got \d images in no other folder than .*images"):
        class_folder_tree(root / "pets")


# The same through an import ------------------------------------------------------------------------------------


def test_class_level_is_taken_for_folders_and_refused_for_other_sources(root, tmp_path):
    images("x/a", "x/b", "y/a", "y/b")(root)
    target = tmp_path / "packs" / "p.npz"
    import_source("folder", root, target, class_level=2)
    assert load_pack(target).class_names == ("x/a", "x/b", "y/a", "y/b")
    with pytest.raises(DataError, match=r"--class-level: expected .* source folder, got 2, omniglot"):
        import_source("omniglot", root, target, class_level=2, force=True)


@pytest.mark.parametrize("source", ["folder", "mini-imagenet", "omniglot", "cifar-fs"])
def test_folder_that_cannot_be_entered_is_listed_and_the_others_imported(root, source):
    for folder in (root, *root.parents[:-2]):
        folder.chmod(0o755)
    names = {"mini-imagenet": ["n01532829", "n01855672"], "cifar-fs": ["apple", "bear"]}.get(source, ["a/1", "b/2"])
    images(*names, "0", "zzz")(root)
    closed = [root / "0", root / "zzz"]
    for folder in closed:
        folder.chmod(0o000)
    user = os.geteuid()
    if user == 0:  # permissions do not bind root
        os.seteuid(65534)
    try:
        pack, skipped = pack_of_tree(source, root)
    finally:
        os.seteuid(user)
    assert pack.num_classes == 2
    assert dict(skipped) == {str(folder): "a folder that cannot be read: Permission denied" for folder in closed}
