"""Every shipped recipe is loaded and run two meta-iterations, on small packs of noise with the classes it needs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mamlcli.recipe.changes import recipe_difference
from mamlcli.recipe.files import load_recipe, shipped_recipes
from mamlcli.runs.folder import RunDirectory
from mamlcli.tasks.images.class_splits import class_split
from mamlcli.tasks.images.packs import Pack
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from tests.helpers.image_files import class_folders
from tests.helpers.running import noise_pack, train_run

SHIPPED = shipped_recipes()

# The fewest images of a class that any recipe asks for once its queries are two.
NUM_IMAGES = 7
SHAPES = {
    "omniglot": (28, 28, 1),
    "cifar-fs": (32, 32, 3),
    "fc100": (32, 32, 3),
    "mini-imagenet": (84, 84, 3),
}

# Amounts only: what is computed stays as shipped.
AMOUNTS = (
    "outer.iterations=2",
    "outer.tasks=2",
    "evaluation.tasks=2",
    "validation.every=null",
    "execution.device=cpu",
)


# At 84 x 84 pixels a step takes a second: fewer of them too.
FEWER = {
    "mini-imagenet": (
        "outer.tasks=1",
        "inner.steps=2",
        "evaluation.steps=3",
        "tasks.queries=1",
        "evaluation.queries=1",
    )
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with packs of noise, made when they are asked for, and class folders of noise."""
    folder = tmp_path_factory.mktemp("data")
    nothing = Pack(np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64), ())

    def prepare(source):
        if source == "folder" and not (folder / "photos").exists():
            class_folders(folder / "photos", [f"class{index}" for index in range(30)], num_images=3, side=16)
        elif source in SHAPES and not (folder / f"{source}.npz").exists():
            names = [name for split in class_split(source, nothing).values() for name in split]
            noise_pack(folder / f"{source}.npz", names, num_images=NUM_IMAGES, shape=SHAPES[source])
        return folder

    return prepare


@pytest.mark.usefixtures("with_glyphs", "one_thread")
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_runs(name, data, tmp_path, monkeypatch):
    source = load_recipe(name)[1].tasks.source
    folder = data(source)
    monkeypatch.setenv("MAMLCLI_DATA", str(folder))
    words = [*AMOUNTS, *(["tasks.queries=2"] if source in (*SHAPES, "folder") else [])]
    words += FEWER.get(source, ())
    words += [f"tasks.path={folder / 'photos'}"] if source == "folder" else []
    recipe = load_recipe(name, words)[1]
    run = RunDirectory.create(tmp_path / "run", recipe, name)
    report = train_run(run, build(recipe, splits=splits_of_training(recipe)), argv=[]).to_json()

    assert run.manifest["iterations_done"] == 2
    losses = [record["outer_loss"] for record in run.read_metrics()]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert len(report["curve"]) == recipe.evaluation.steps + 1
    assert all(math.isfinite(point["loss"]["mean"]) for point in report["curve"])
    # Adaptation goes downhill on the support set.
    assert report["curve"][-1]["support_loss"]["mean"] < report["curve"][0]["support_loss"]["mean"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_is_shrunk_in_amounts_only(name):
    words = [*AMOUNTS, "tasks.queries=2", *FEWER["mini-imagenet"]]
    changed = set(recipe_difference(load_recipe(name)[1], load_recipe(name, words)[1]))
    assert changed <= {word.partition("=")[0] for word in words}


@pytest.mark.parametrize("name", SHIPPED)
def test_reference_of_a_shipped_recipe_names_its_source(name):
    reference = load_recipe(name)[1].reference
    if reference is not None:
        assert reference.source
        assert reference.margin <= 0.15 * reference.value


def test_every_source_of_a_shipped_recipe_is_prepared():
    sources = {load_recipe(name)[1].tasks.source for name in SHIPPED}
    assert sources <= {*SHAPES, "folder", "glyphs", "linear-regression", "logistic", "sinusoid"}
