"""What a recipe's network cannot be is said when the recipe is read, without building it."""

import pytest

from mamlcli.common.errors import MamlError, RecipeError
from mamlcli.common.names import IMAGE_SHAPES
from mamlcli.recipe.files import recipe_from_tree
from mamlcli.recipe.network_rules import image_shape, names_of_parameters, network_conflicts
from mamlcli.recipe.schema import Recipe
from mamlcli.tasks.images.cifar import IMAGE_SIZE as CIFAR_SIZE
from mamlcli.tasks.images.glyphs import IMAGE_SIZE as GLYPHS_SIZE
from mamlcli.training.experiment import build_network

GLYPHS = {"source": "glyphs"}
LOGISTIC = {"source": "logistic", "dimension": 6}


def recipe(tasks, model, **inner):
    return Recipe.model_validate({"tasks": tasks, "model": model, "inner": inner})


def found(tasks, model, **inner):
    return dict(network_conflicts(recipe(tasks, model, **inner)))


# A recipe that cannot be, the key that says so, and its words.
IMPOSSIBLE = [
    (GLYPHS, {"kind": "cnn", "stride": 2, "depth": 5, "width": 8, "norm": "group"}, {}, "model.norm", "got 'group'."),
    (GLYPHS, {"kind": "cnn", "stride": 2, "depth": 5, "width": 1, "norm": "layer"}, {}, "model.norm", "got 'layer'."),
    (GLYPHS, {"kind": "cnn", "depth": 5, "pool": 2}, {}, "model.depth", "at most 4 blocks"),
    (
        {"source": "folder", "path": "photos", "image_size": 8},
        {"kind": "cnn", "depth": 4, "pool": 2},
        {},
        "model.depth",
        "at most 3 blocks for 8x8",
    ),
    (GLYPHS, {"kind": "mlp", "linear_layers": 1, "linear_width": 4}, {}, "model.linear_width", "an integer >= 5"),
    (
        {**GLYPHS, "ways": 9},
        {"kind": "mlp", "width": 7, "linear_layers": 1, "linear_width": 6},
        {},
        "model.linear_width",
        ">= 7",
    ),
    (LOGISTIC, {"kind": "linear", "depth": 2, "width": 1}, {}, "model.width", "an integer >= 2"),
    (LOGISTIC, {"kind": "linear", "depth": 1, "linear_layers": 1, "linear_width": 1}, {}, "model.linear_width", ">= 2"),
    (LOGISTIC, {"kind": "linear"}, {"head": "zero"}, "inner.head", "network of one layer, got zero."),
    (LOGISTIC, {"kind": "mlp"}, {"head": "zero", "adapt": ["body.*"]}, "inner.head", "the output layer does not adapt"),
    (LOGISTIC, {"kind": "mlp"}, {"adapt": ["*.conv.*"]}, "inner.adapt", "got '*.conv.*'. The names are body.0.weight"),
    (LOGISTIC, {"kind": "mlp"}, {"algorithm": "anil", "adapt": ["*"]}, "inner.adapt", "parameters of the head"),
    (LOGISTIC, {"kind": "mlp"}, {"algorithm": "boil", "adapt": ["*"]}, "inner.adapt", "parameters of the body"),
    (
        LOGISTIC,
        {"kind": "mlp"},
        {"algorithm": "anil", "transform": {"name": "kfo", "parameters": ["body.*"]}},
        "inner.transform.parameters",
        "got 'body.*'. The names are head.0.weight, head.0.bias.",
    ),
]


@pytest.mark.parametrize(("tasks", "model", "inner", "key", "words"), IMPOSSIBLE)
def test_a_network_that_cannot_be_is_refused_with_its_key(tasks, model, inner, key, words):
    conflicts = found(tasks, model, **inner)
    assert list(conflicts) == [key]
    assert words in conflicts[key]
    with pytest.raises(RecipeError) as refused:
        recipe_from_tree({"tasks": tasks, "model": model, "inner": inner})
    assert refused.value.problems == [f"recipe: {key}: {conflicts[key]}"]


def test_what_a_learned_head_is_scored_by_counts_too():
    # A head at zero is scored with 9 outputs: its appended layer, wide enough in training, is too narrow then.
    model = {"kind": "mlp", "width": 9, "linear_layers": 1, "linear_width": 5}
    tree = {"tasks": GLYPHS, "model": model, "inner": {"head": "zero"}, "evaluation": {"ways": 9}}
    assert [key for key, _ in network_conflicts(Recipe.model_validate(tree))] == ["model.linear_width"]
    assert not found(GLYPHS, model, head="zero")


@pytest.mark.parametrize("source", ["omniglot", "mini-imagenet"])
def test_nothing_is_said_of_images_whose_size_only_the_data_tells(source):
    deep = {"kind": "cnn", "depth": 9, "pool": 2}
    assert found(GLYPHS, deep)
    assert not found({"source": source}, deep)
    assert not found({**GLYPHS, "path": "pack.npz"}, deep)
    assert not found({"source": "folder", "path": "pack.npz", "image_size": 8}, deep)


def test_one_key_is_blamed_once():
    with pytest.raises(RecipeError) as refused:
        recipe_from_tree({"tasks": LOGISTIC, "model": {"kind": "linear"}, "inner": {"algorithm": "boil"}})
    assert len(refused.value.problems) == 1


def test_sizes_of_sources_are_those_of_their_images():
    assert IMAGE_SHAPES["glyphs"] == (1, GLYPHS_SIZE, GLYPHS_SIZE)
    assert IMAGE_SHAPES["cifar-fs"] == IMAGE_SHAPES["fc100"] == (3, CIFAR_SIZE, CIFAR_SIZE)


@pytest.mark.parametrize(
    "model", [{"kind": "cnn"}, {"kind": "mlp", "linear_layers": 1}, {"kind": "linear", "depth": 2}]
)
def test_names_are_those_of_the_network_that_is_built(model):
    made = recipe(GLYPHS, model)
    assert image_shape(made) == (1, 28, 28)
    assert names_of_parameters(made) == build_network(made, (1, 28, 28), 5).names_by_part()


def test_the_network_refuses_by_itself_what_the_recipe_could_not_know():
    made = recipe({"source": "omniglot"}, {"kind": "cnn", "stride": 2, "depth": 2, "width": 8, "norm": "group"})
    build_network(made, (1, 28, 28), 5)
    with pytest.raises(MamlError, match=r"model\.norm: .* got 'group'"):
        build_network(made, (1, 4, 4), 5)
