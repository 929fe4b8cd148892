"""No class, turned or not, is in two splits, and no image in both sets of a task, whatever the source.

Checked is what tasks are drawn from, through the recipe, and what is drawn: every drawn image is found in its pack.
Labels say nothing of classes: what ignores the support set is at chance, though it knows every class.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from mamlcli.common.names import HELD_BACK, SPLITS
from mamlcli.engine import evaluation
from mamlcli.engine.execution import Execution
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.episodes import sample_tasks
from mamlcli.tasks.images.class_splits import published_split
from mamlcli.training.data import build_tasks, load_image_pack
from mamlcli.training.scoring import SELECTION_STREAM, evaluation_stream
from tests.helpers.image_files import class_folders
from tests.helpers.running import TINY, built, noise_pack

NUM_TASKS = 12
ROTATED = "tasks.rotations=true"
FEW = ("tasks.queries=2", "tasks.shots=1")

# source -> the recipe and what is changed of it; each is made small by `made`.
CASES = {
    "omniglot, published, rotations": ("omniglot-5way-1shot", ROTATED),
    "omniglot, seeded, rotations": ("omniglot-5way-1shot", ROTATED, "tasks.class_split=seeded", "tasks.split_seed=3"),
    "omniglot, held back": ("omniglot-5way-1shot", ROTATED, "tasks.held_back=40"),
    "cifar-fs": ("cifar-fs-5way-1shot-4blocks",),
    "fc100": ("fc100-5way-5shot",),
    "mini-imagenet": ("mini-imagenet-5way-1shot",),
    "glyphs, rotations": ("glyphs-5way-1shot", ROTATED),
    "pack, seeded": ("folder",),
    "pack, its own splits, rotations": ("folder", ROTATED),
    "folders, seeded": ("folder",),
    "folders train, val, test": ("folder",),
    "folders train and test alone": ("folder",),
}


def made(name: str, folder) -> tuple[str, ...]:
    """Write the images of a case, few and small, and return the changes of the recipe that find them."""
    source, names = name.partition(",")[0], [f"class {i:02d}" for i in range(30)]
    if source in ("omniglot", "cifar-fs", "fc100", "mini-imagenet"):
        classes = [one for of_split in published_split(source).values() for one in of_split]
        shape = (4, 4, 1 if source == "omniglot" else 3)
        noise_pack(folder / "data" / f"{source}.npz", classes, num_images=4, shape=shape)
        return ()
    if source == "pack":
        splits = {"train": names[:15], "validation": names[15:21], "test": names[21:]}
        record = {"class_splits": splits} if "own" in name else {}
        return (f"tasks.path={noise_pack(folder / 'own.npz', names, num_images=4, **record)}",)
    if source == "glyphs":
        return ()
    parts = {"folders, seeded": ("",), "folders train and test alone": ("train", "test")}.get(name)
    parts = parts or ("train", "val", "test")
    for index, part in enumerate(parts):
        class_folders(folder / "tree" / part, names[index :: len(parts)], num_images=4, side=8)
    # The numbers of class_folders are seeds of images: those of other parts begin again, and are other classes here.
    return (f"tasks.path={folder / 'tree'}", "tasks.image_size=8")


def distributions_of(recipe, splits):
    return build_tasks(recipe, splits=splits, device=torch.device("cpu"), dtype=torch.float32)


def places_of_images(images: np.ndarray) -> dict[bytes, set[int]]:
    """Return which images of a pack have these pixels, upright or turned."""
    places: dict[bytes, set[int]] = {}
    for turns in range(4):
        for index, image in enumerate(np.rot90(images, turns, axes=(1, 2))):
            places.setdefault(image.tobytes(), set()).add(index)
    return places


def indices(places, x: torch.Tensor) -> list[set[int]]:
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return [places[image.tobytes()] for image in pixels]


@pytest.mark.parametrize("case", CASES)
def test_splits_share_no_class_and_sets_of_a_task_no_image(case, tmp_path, with_glyphs):
    check_case(CASES[case][0], *CASES[case][1:], *FEW, *made(case, tmp_path), "tasks.ways=4")


@pytest.mark.parametrize("recipe", ["omniglot-20way-1shot", "cifar-fs-5way-1shot-4blocks"])
@pytest.mark.skipif("MAMLCLI_REAL_DATA" not in os.environ, reason="MAMLCLI_REAL_DATA names no folder of packs")
def test_real_packs_share_no_class_and_no_image(recipe, monkeypatch):
    monkeypatch.setenv("MAMLCLI_DATA", os.environ["MAMLCLI_REAL_DATA"])
    check_case(recipe)


def check_case(name, *changes):
    recipe = load_recipe(name, changes)[1]
    pack = load_image_pack(recipe.tasks)[0]
    present = set(pack.class_names)
    # A pack may lack the classes of a whole split.
    lists = published_split(recipe.tasks.source) if recipe.tasks.source == "cifar-fs" else {}
    splits = [split for split in SPLITS if set(lists.get(split, present)) & present]
    splits += [HELD_BACK] if recipe.tasks.held_back else []
    sets = distributions_of(recipe, tuple(splits))
    places, owner = places_of_images(pack.images), {}
    for split in splits:
        tasks = sets.training if split == "train" else sets.scored[split]
        own = {int(pack.labels[of_class[0]]) for of_class in tasks.class_images}
        assert all((pack.labels[of_class.numpy()] == pack.labels[of_class[0]]).all() for of_class in tasks.class_images)
        assert len(own) == len(tasks.class_images) > 0
        for label in own:
            assert owner.setdefault(label, split) == split, pack.class_names[label]
        episode = sample_tasks(tasks, seed=0, split=split, iteration=0, indices=range(NUM_TASKS))
        for support_x, query_x in zip(episode.support_x, episode.query_x, strict=True):
            support, query = indices(places, support_x), indices(places, query_x)
            assert not set.union(*support) & set.union(*query)
            for one in (*support, *query):
                assert {int(pack.labels[index]) for index in one} & own


def test_tasks_that_choose_train_and_score_are_of_three_streams_for_every_synthetic_source():
    for source in ("linear-regression", "logistic", "sinusoid"):
        tasks = distributions_of(load_recipe(source, TINY)[1], ("train",)).training
        streams = ["train", SELECTION_STREAM, *map(evaluation_stream, SPLITS)]
        drawn = [sample_tasks(tasks, seed=0, split=name, iteration=0, indices=range(20)) for name in streams]
        inputs = torch.cat([episode.support_x for episode in drawn]).flatten(1)
        assert len(inputs.unique(dim=0)) == 20 * len(streams)


# Labels --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tasks_of_few_classes(tmp_path):
    path = noise_pack(tmp_path / "noise.npz", [f"class {i}" for i in range(20)], num_images=4, shape=(8, 8, 1))
    keys = (f"tasks.path={path}", "tasks.image_size=8", "tasks.channels=1", "tasks.ways=4", *FEW)
    return keys, distributions_of(load_recipe("folder", keys)[1], ("train",)).training


def classes_and_labels(tasks, stream, num_tasks):
    """Return the class (its first image) and the label of every query of many tasks, [num_tasks, queries] each."""
    class_of = {int(index): int(of_class[0]) for of_class in tasks.class_images for index in of_class}
    places = {image.numpy().tobytes(): index for index, image in enumerate(tasks.images)}
    episode = sample_tasks(tasks, seed=0, split=stream, iteration=0, indices=range(num_tasks))
    pixels = (episode.query_x * 255).round().to(torch.uint8)
    classes = [[class_of[places[image.numpy().tobytes()]] for image in of_task] for of_task in pixels]
    return np.array(classes), episode.query_y.numpy()


def test_who_remembers_the_label_of_every_class_is_at_chance(tasks_of_few_classes):
    # The best that can be done without the support set: for each class, the label it had most often in other tasks.
    _, tasks = tasks_of_few_classes
    known, labels = classes_and_labels(tasks, "train", 1500)
    table = {one: np.bincount(labels[known == one], minlength=4) for one in np.unique(known)}
    for counts in table.values():
        # Each label in a quarter of the tasks with the class; chi-squared with 3 degrees is above 21 in 1 of 10,000.
        tasks_with = counts / 2  # two queries of a class in a task
        assert (np.square(tasks_with - tasks_with.mean()) / tasks_with.mean()).sum() < 21
    classes, truth = classes_and_labels(tasks, "other", 1500)
    guesses = np.vectorize(lambda one: table[one].argmax())(classes)
    # 6,000 classes of tasks, each right with chance 1/4: a standard error of 0.0056.
    assert abs((guesses == truth).mean() - 0.25) < 4 * 0.0056
    # Within a task it need not be: whoever looks at the support set knows the labels.
    assert all(len({*zip(c, t, strict=True)}) == 4 for c, t in zip(classes, truth, strict=True))


def test_network_that_does_not_adapt_is_at_chance_and_a_constant_answer_exactly_so(tasks_of_few_classes):
    keys, tasks = tasks_of_few_classes
    experiment = built("folder", *keys, "execution.dtype=float32")
    [found] = evaluation.evaluate(
        experiment.objective(0),
        [experiment.initial_meta()],
        tasks,
        stream="test",
        seed=0,
        num_tasks=400,
        execution=Execution("batched", 100),
        with_references=False,
    )
    right = found.column("query_accuracy", 0)
    # Tasks vary independently: the mean of 400 is within four of its standard errors of chance.
    assert abs(right.mean() - 0.25) < 4 * right.std(ddof=1) / 20
    _, labels = classes_and_labels(tasks, "test", 100)
    assert ((labels == 2).mean(axis=1) == 0.25).all()
