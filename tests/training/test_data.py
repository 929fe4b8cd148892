"""The task distributions of a recipe: which classes and images each split has, and what is missing."""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import DataError
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.images.class_splits import published_classes
from mamlcli.training.data import load_image_pack
from tests.helpers.image_files import class_folders
from tests.helpers.running import built, noise_pack

pytestmark = pytest.mark.usefixtures("one_thread")


def build_cifar(*overrides, splits=("train",)):
    return built("cifar-fs-5way-5shot", "tasks.shots=1", *overrides, splits=splits)


def test_classes_of_a_split_that_is_not_used_may_be_missing(cifar_of_two_splits):
    experiment = build_cifar(splits=("train", "validation"))
    assert set(experiment.distributions) == {"train", "validation"}
    assert len(experiment.distributions["validation"].class_images) == 16


def test_classes_of_a_split_that_is_used_are_all_named_where_they_are_missing(cifar_of_two_splits):
    with pytest.raises(DataError) as caught:
        build_cifar(splits=("train", "test"))
    for name in published_classes("cifar_fs")["test"]:
        assert name in str(caught.value)


def test_more_ways_than_classes_is_refused_with_the_split(cifar_of_two_splits):
    with pytest.raises(DataError, match=r"tasks\.ways .*validation split.*at most 16, .* got 17"):
        build_cifar("tasks.ways=17", splits=("train", "validation"))


def test_more_images_of_a_class_than_there_are_is_refused(cifar_of_two_splits):
    with pytest.raises(DataError, match=r"at most 6, the images of class .* got 5 \+ 2"):
        build_cifar("tasks.shots=5")


def test_missing_pack_is_answered_with_the_commands_that_make_one():
    with pytest.raises(
        DataError,
        match=r"mamlcli data fetch omniglot, or with a copy .* mamlcli data import omniglot",
    ):
        built("omniglot-5way-1shot")


def test_folder_without_a_path_is_answered_with_the_command():
    with pytest.raises(DataError, match=r"mamlcli train folder tasks\.path=DIR"):
        built("folder")


@pytest.mark.parametrize("path", ["nothing", "nothing.npz"])
def test_path_that_is_not_there_is_refused(path):
    with pytest.raises(DataError, match=r"folder of class folders, or a pack, got .* does not exist"):
        built("folder", f"tasks.path={path}")


def test_folder_in_the_place_of_a_pack_is_called_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"expected a pack \(\.npz file\), got a folder"):
        build_cifar(f"tasks.path={tmp_path}")
    with pytest.raises(DataError, match=f"mamlcli data import cifar-fs {tmp_path}"):
        build_cifar(f"tasks.path={tmp_path}")
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=f"mamlcli data import folder {tmp_path}/pets.zip"):
        built("folder", f"tasks.path={tmp_path}/pets.zip")


def test_folder_is_read_without_a_pack(tmp_path):
    class_folders(tmp_path / "photos", [f"class{index}" for index in range(9)], num_images=4)
    tasks = load_recipe("folder", [f"tasks.path={tmp_path / 'photos'}", "tasks.image_size=10"])[1].tasks
    pack, where, skipped = load_image_pack(tasks)
    assert pack.images.shape == (36, 10, 10, 3)
    assert where == str(tmp_path / "photos")
    assert skipped == []


def test_class_level_says_which_folders_are_classes_where_that_is_not_clear(tmp_path):
    for alphabet in ("Greek", "Korean"):
        class_folders(tmp_path / "letters" / alphabet, ["character01", "character02"])
    path = f"tasks.path={tmp_path / 'letters'}"
    with pytest.raises(DataError, match=r"not clear whether .* --class-level 1 .*tasks\.class_level"):
        load_image_pack(load_recipe("folder", [path])[1].tasks)
    pack, _, _ = load_image_pack(load_recipe("folder", [path, "tasks.class_level=1"])[1].tasks)
    assert (pack.class_names, pack.class_groups) == (("Greek", "Korean"), None)
    pack, _, _ = load_image_pack(load_recipe("folder", [path, "tasks.class_level=2"])[1].tasks)
    assert pack.class_names[:2] == ("Greek/character01", "Greek/character02")
    assert pack.class_groups == ("Greek", "Greek", "Korean", "Korean")


def test_split_seed_and_not_the_run_s_seed_chooses_the_classes_of_a_seeded_split(tmp_path):
    path = noise_pack(tmp_path / "p.npz", [f"class{index}" for index in range(20)])
    first, second, again = (
        built("folder", f"tasks.path={path}", "tasks.ways=2", *keys).distributions["train"]
        for keys in (["seed=0"], ["tasks.split_seed=1"], ["seed=1"])
    )
    chosen = [[int(members[0]) for members in tasks.class_images] for tasks in (first, second, again)]
    assert chosen[0] == chosen[2]
    assert chosen[0] != chosen[1]


def test_synthetic_splits_share_one_distribution():
    distributions = built("sinusoid", splits=("train", "test")).distributions
    assert distributions["train"] is distributions["test"]


AUGMENTED = "tasks.augment=[flip, crop, colour]"


def test_augmentation_is_of_the_tasks_that_are_trained_on_and_of_no_others(cifar_of_two_splits):
    plain, augmented = (build_cifar(*keys, splits=("train", "validation")) for keys in ((), (AUGMENTED,)))
    assert augmented.training.augment == ("flip", "crop", "colour")
    assert plain.training.augment == ()
    for split in ("train", "validation"):  # train, too, where it is scored
        assert augmented.distributions[split].augment == ()


def test_tasks_to_train_on_are_made_where_the_split_is_asked_for(cifar_of_two_splits):
    assert build_cifar(splits=("validation",)).training is None
    assert built("sinusoid", splits=("test",)).training is None


def test_augmentation_of_a_pack_of_grey_images_is_refused(tmp_path):
    path = noise_pack(tmp_path / "p.npz", [f"class{index}" for index in range(20)], shape=(8, 8, 1))
    with pytest.raises(DataError, match=r"tasks\.augment .*expected nothing for grey images, got flip, crop, colour"):
        built("folder", f"tasks.path={path}", "tasks.ways=2", AUGMENTED)


def test_data_is_described_by_a_digest_of_its_own(tmp_path):
    names = [f"class{index}" for index in range(9)]
    digests = []
    for seed in (0, 0, 1):
        path = noise_pack(tmp_path / "p.npz", names, seed=seed)
        digests.append(built("folder", f"tasks.path={path}", "tasks.ways=2").data["digest"])
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


# Tasks that are scored -------------------------------------------------------------------------------------

ALL = ("train", "validation", "test")


def sizes(tasks):
    return tasks.ways, tasks.shots, tasks.queries


@pytest.fixture
def cifar(tmp_path):
    """All classes of CIFAR-FS, 6 images each."""
    splits = published_classes("cifar_fs")
    return noise_pack(tmp_path / "data" / "cifar-fs.npz", [name for part in splits.values() for name in part])


def test_tasks_that_are_scored_have_their_own_sizes_and_those_trained_on_the_recipes(cifar):
    sets = build_cifar("evaluation.ways=3", "evaluation.shots=2", "evaluation.queries=4", splits=ALL)
    assert sizes(sets.training) == (5, 1, 2)
    assert {split: sizes(tasks) for split, tasks in sets.distributions.items()} == {
        "validation": (3, 2, 4),
        "test": (3, 2, 4),
    }
    assert sets.network.num_outputs == 5
    assert sets.training.images is sets.distributions["test"].images


def test_meta_train_is_scored_where_it_is_the_split_of_the_evaluation(cifar):
    sets = build_cifar("evaluation.queries=4", "evaluation.split=train", splits=("train",))
    assert (sizes(sets.training), sizes(sets.distributions["train"])) == ((5, 1, 2), (5, 1, 4))


def test_without_keys_of_their_own_scored_tasks_are_those_of_the_recipe(cifar):
    sets = build_cifar(splits=ALL)
    assert sets.distributions["train"] is sets.training
    assert {sizes(tasks) for tasks in sets.distributions.values()} == {(5, 1, 2)}


def test_too_few_images_for_the_evaluation_are_told_with_its_keys(cifar):
    expected = r"tasks\.shots \+ evaluation\.queries .*test split.*at most 6, .*got 1 \+ 6.*Lower .*evaluation\.queries"
    with pytest.raises(DataError, match=expected):
        build_cifar("evaluation.queries=6", splits=("train", "test"))
    # Meta-train is not scored, and has images enough for what it is trained on.
    assert sizes(build_cifar("evaluation.queries=6", splits=("train",)).training) == (5, 1, 2)


def test_too_few_classes_for_the_evaluation_are_told_with_its_key(cifar):
    with pytest.raises(DataError, match=r"evaluation\.ways .*validation split.*at most 16, .*got 17"):
        build_cifar("evaluation.ways=17", "inner.head=shared", splits=("train", "validation"))


@pytest.mark.parametrize("source", ["sinusoid", "linear-regression", "logistic"])
def test_synthetic_tasks_that_are_scored_have_points_of_their_own_number(source):
    sets = built(source, "evaluation.shots=7", "evaluation.queries=9", splits=("train", "test"))
    assert (sets.training.shots, sets.training.queries) == (4, 3)
    assert (sets.distributions["test"].shots, sets.distributions["test"].queries) == (7, 9)


# Classes held back -----------------------------------------------------------------------------------------


def classes_of(tasks):
    """Return the classes of a distribution of a pack of 6 images a class, as indices."""
    return {int(members[0]) // 6 for members in tasks.class_images}


def test_classes_held_back_are_not_trained_on_and_are_noted_with_the_data(cifar):
    splits = ("train", "held-back", "validation")
    plain, sets = build_cifar(splits=("train", "validation")), build_cifar("tasks.held_back=10", splits=splits)
    held_back, train = classes_of(sets.distributions["held-back"]), classes_of(sets.training)
    assert (len(held_back), len(train)) == (10, 54)
    assert held_back | train == classes_of(plain.training)
    assert classes_of(sets.distributions["validation"]) == classes_of(plain.distributions["validation"])
    names = load_image_pack(sets.recipe.tasks)[0].class_names
    assert sorted(sets.data["held_back"]) == sorted(names[index] for index in held_back)
    assert "held_back" not in plain.data


def test_class_that_is_held_back_is_held_back_with_its_rotations(cifar):
    sets = build_cifar("tasks.held_back=2", "tasks.rotations=true", splits=("train", "held-back"))
    held_back = sets.distributions["held-back"]
    assert len(held_back.class_images) == 2
    assert held_back.sample([torch.Generator().manual_seed(0)]).support_x.shape[1] == 5  # of the 8 classes they make
    assert not classes_of(held_back) & classes_of(sets.training)


def test_classes_can_be_held_back_of_a_folder_and_of_a_seeded_split(tmp_path):
    path = noise_pack(tmp_path / "p.npz", [f"class{index}" for index in range(30)])
    keys = (f"tasks.path={path}", "tasks.ways=2", "tasks.held_back=4")
    sets = built("folder", *keys, splits=("train", "held-back", "validation", "test"))
    parts = [classes_of(sets.training), *(classes_of(sets.distributions[split]) for split in ALL[1:])]
    parts.append(classes_of(sets.distributions["held-back"]))
    assert sorted(index for part in parts for index in part) == list(range(30))
    for split, num in (("train", 6), ("val", 2), ("test", 2)):
        class_folders(tmp_path / "photos" / split, [f"{split}{index}" for index in range(num)], num_images=4)
    other = built("folder", f"tasks.path={tmp_path / 'photos'}", *keys[1:], splits=("train", "held-back", "validation"))
    assert (len(other.training.class_images), len(other.distributions["validation"].class_images)) == (2, 2)
    assert set(other.data["held_back"]) < {f"train{index}" for index in range(6)}


def test_more_classes_held_back_than_training_can_spare_are_refused(cifar):
    with pytest.raises(DataError, match=r"tasks\.held_back: expected at most 59, got 60.*64 classes.*need 5"):
        build_cifar("tasks.held_back=60")
    with pytest.raises(DataError, match=r"expected at most 62, got 63.*64 classes.*need 2"):
        build_cifar("tasks.held_back=63", "tasks.rotations=true")
