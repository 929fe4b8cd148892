"""The task distributions of a recipe: which classes and images each split has, and what is missing."""

from __future__ import annotations

import pytest

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
    with pytest.raises(DataError, match="mamlcli data fetch omniglot, or: mamlcli data import omniglot"):
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


def test_folder_is_read_without_a_pack(tmp_path):
    class_folders(tmp_path / "photos", [f"class{index}" for index in range(9)], num_images=4)
    tasks = load_recipe("folder", [f"tasks.path={tmp_path / 'photos'}", "tasks.image_size=10"])[1].tasks
    pack, where, skipped = load_image_pack(tasks)
    assert pack.images.shape == (36, 10, 10, 3)
    assert where == str(tmp_path / "photos")
    assert skipped == []


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
