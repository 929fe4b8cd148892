"""Random recipes, made by a walk through the schema: what is legal, its edges, and now and then what is not."""

from __future__ import annotations

import operator
import random
from dataclasses import replace
from functools import cache

import numpy as np
from pydantic import ValidationError

from mamlcli.common.errors import MamlError, NonFiniteError, RecipeError, is_out_of_memory
from mamlcli.common.names import CLASS_SPLITS, IMAGE_SHAPES
from mamlcli.engine.outer_loop import train
from mamlcli.engine.state import new_state
from mamlcli.recipe.files import recipe_from_tree
from mamlcli.recipe.keys import RecipeKey, sections, tag_keys, tag_values
from mamlcli.recipe.rules import conflicts
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.tasks_schema import FolderTasks, ImageTasks
from mamlcli.tasks.images.class_splits import class_split
from mamlcli.tasks.images.letters import SCRIPTS
from mamlcli.tasks.images.packs import Pack
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training, training_execution, training_functions
from mamlcli.training.scoring import evaluation_tasks, score
from tests.helpers.image_files import noise

# Height, width and channels of the images of packs that may be of any size.
OTHER_SHAPES = ((8, 8, 3), (1, 1, 3), (2, 5, 1), (16, 9, 3), (14, 14, 1))

IMAGES_OF_A_CLASS = 6

PATTERNS = (
    "*",
    "head.*",
    "body.*",
    "*.bias",
    "*.weight",
    "body.0.*",
    "*.norm.*",
    "head.0.*",
    "head.1.weight",
    "*conv*",
)

# Numbers that a run can have and still be over in a moment: of these keys, of all others.
FEW = {
    "outer.tasks": (1, 2, 3),
    "outer.iterations": (1, 2),
    "inner.steps": (1, 2, 3),
    "evaluation.steps": (1, 2, 4),
    "evaluation.tasks": (2, 3),
    "validation.tasks": (1, 2),
    "evaluation.shots": (1, 2, 3),
    "evaluation.queries": (1, 2, 3),
    "tasks.image_size": (8, 9, 16, 28),
    "tasks.ways": (2, 2, 3, 5),
    "tasks.shots": (1, 2, 3),
    "tasks.queries": (1, 2, 3),
    "model.depth": (1, 2, 3, 4, 5, 6),
    "model.width": (1, 2, 3, 4, 5, 8),
    "model.pool": (1, 1, 2, 2, 3, 8),
    "execution.threads": (1, 2),
}
SMALL_INTEGERS = (1, 2, 3, 4, 5, 8)
USUAL_NUMBERS = (0.001, 0.01, 0.1, 0.4, 1.0, 2.0)

# What nobody should write, and somebody will; numbers for keys that are numbers.
WILD = (-1, 0, 1, 10**6, 10**9, True, None, "", "x", "null", [], ["x"], {}, {"a": 1})
WILD_INTEGERS = (-1, 0, 6, 7, 100, 10**4, 10**6, 10**9, 2**31, 2**62, 2**63, 10**30)
WILD_NUMBERS = (0, -0.1, 1e-320, 1e-45, 1e-30, 1e-8, 100.0, 1e8, 1e30, 1e39, 1e300, 10**400, float("inf"), float("nan"))

# Keys whose huge values mean work without end, which nothing can tell from work that somebody wants.
COUNTS = ("tasks", "shots", "queries", "steps", "iterations")

# Keys whose values may be as large as all memory.
SIZES = ("width", "linear_width", "hidden_width", "dimension")

# Keys that every random recipe has, so that it is over in a moment.
ALWAYS = {"outer.tasks", "outer.iterations", "inner.steps", "evaluation.tasks", "validation.tasks", "execution.device"}
ALWAYS |= {"tasks.ways", "tasks.shots", "tasks.queries", "tasks.image_size", "model.width"}


def random_tree(chance: random.Random, *, wildness: float = 0.2) -> dict:
    """Return the tree of a random recipe; in a share of them, `wildness`, a key or two have a value from anywhere."""
    # What is given from Python is not here.
    tags = {path: chance.choice([tag for tag in tag_values(path) if "python" not in tag]) for path in tag_keys()}
    if tags["model"] == "cnn" and chance.random() < 0.9:
        tags["tasks"] = chance.choice(list(CLASS_SPLITS))
    share = chance.choice((0.05, 0.15, 0.3))
    tree: dict = {}
    written: dict[str, RecipeKey] = {}
    for part in sections():
        if not part.stands_for(tags) or part.path == "reference":
            continue
        below = _at(tree, part.path)
        if part.tag:
            below[part.tag] = tags[part.path]
        for key in part.keys:
            if key.name in ALWAYS or key.default is None or chance.random() < share:
                below[key.name.rpartition(".")[2]] = random_value(chance, key, tags)
                written[key.name] = key
    if chance.random() < 0.8:
        _repair(tree)
    if chance.random() < wildness:
        for name in chance.sample(sorted(written), min(len(written), chance.choice((1, 1, 2)))):
            path, _, last = name.rpartition(".")
            _at(tree, path)[last] = _wild(chance, written[name])
    return tree


def _wild(chance: random.Random, key: RecipeKey) -> object:
    values: tuple[object, ...] = WILD
    if chance.random() < 0.8 and "number" in key.types:
        values = WILD_NUMBERS
    elif chance.random() < 0.8 and "integer" in key.types:
        values = WILD_INTEGERS
    if chance.random() < 0.8:
        values = tuple(value for value in values if _is_within(value, key.bounds)) or values
    if key.name.rpartition(".")[2] in COUNTS:
        values = tuple(value for value in values if not isinstance(value, int) or value < 100)
    if key.name.rpartition(".")[2] in SIZES:
        values = tuple(value for value in values if value != 10**4)
    return chance.choice(values or WILD)


def _repair(tree: dict) -> None:
    """Take the keys out that break a rule, as long as there are some."""
    for _ in range(8):
        try:
            broken = conflicts(Recipe.model_validate(tree))
        except ValidationError:
            return
        for name, _ in broken[:1]:
            path, _, last = name.rpartition(".")
            if _at(tree, path).pop(last, None) is None and last == "kind":
                tree["model"] = {"kind": "mlp"}
        if not broken:
            return


def random_value(chance: random.Random, key: RecipeKey, tags: dict[str, str]) -> object:
    """Return a value that the schema allows for a key, or nearly so."""
    if key.name == "execution.device":
        return "cpu"
    if key.name == "tasks.path":
        return None
    if key.name == "execution.compile":  # takes a minute
        return chance.choice(("auto", False))
    if key.name == "execution.cuda_graphs":  # on is refused where there is no GPU
        return chance.choice(("auto", "off"))
    if key.name == "tasks.class_split":
        return chance.choice((None, *CLASS_SPLITS[tags["tasks"]]))
    if key.name == "logging":
        return chance.choice(("none", "csv", ["csv"], ["tensorboard", "csv"]))
    if key.name == "tasks.augment":
        return chance.sample(("flip", "crop", "colour"), chance.choice((0, 1, 1, 2, 3)))
    if key.is_list or "list" in " ".join(key.types):
        patterns = chance.sample(PATTERNS, chance.choice((1, 1, 2)))
        return chance.choice((None, patterns)) if "`null`" in key.types else patterns
    if "`null`" in key.types and key.name not in ALWAYS and chance.random() < 0.3:
        return None
    if key.name in FEW:
        return chance.choice(FEW[key.name])
    if key.is_closed and key.values:
        value = chance.choice([value for value in key.values if value != "python"])  # what is given is not here
        return {"true": True, "false": False, "null": None}.get(value, _number(value))
    if "number" in key.types:
        return chance.choice(
            (*USUAL_NUMBERS, *(_number(bound.split()[-1]) for bound in key.bounds if bound[0] in "<>"))
        )
    if "integer" in key.types:
        return chance.choice(SMALL_INTEGERS)
    return chance.choice(key.values) if key.values else "text"


def _is_within(value: object, bounds: tuple[str, ...]) -> bool:
    """Return whether a value is a number within bounds as a key has them, such as ">= 1"."""
    limits = [bound.split() for bound in bounds if bound[0] in "<>"]
    compare = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return all(compare[sign](value, float(limit)) for sign, limit in limits)


def _number(text: str) -> object:
    """Return the number that a text is, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _at(tree: dict, path: str) -> dict:
    for name in path.split(".") if path else ():
        tree = tree.setdefault(name, {})
    return tree


def pack_of(tasks: ImageTasks | FolderTasks, chance: random.Random) -> Pack:
    """Return a pack of noise for a recipe: of the size that its source or its recipe says, or of any."""
    if tasks.source in IMAGE_SHAPES:
        channels, height, width = IMAGE_SHAPES[tasks.source]
        return _pack(tasks.source, (height, width, channels))
    if isinstance(tasks, FolderTasks) and chance.random() < 0.7:
        return _pack(tasks.source, (tasks.image_size, tasks.image_size, tasks.channels))
    return _pack(tasks.source, chance.choice(OTHER_SHAPES))


@cache
def _pack(source: str, shape: tuple[int, int, int]) -> Pack:
    """Return a pack of noise, held in memory, with the classes that a source has."""
    groups: tuple[str, ...] | None = None
    if source == "folder":
        names: tuple[str, ...] = tuple(f"class{i:02d}" for i in range(40))
    elif source == "glyphs":
        groups = tuple(script for script in SCRIPTS for _ in range(8))
        names = tuple(f"{script} {number}" for number, script in enumerate(groups))
    else:
        splits = class_split(source, Pack(np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64), ()))
        names = tuple(name for split in splits.values() for name in split)
    labels = np.repeat(np.arange(len(names)), IMAGES_OF_A_CLASS)
    return Pack(noise(len(labels), *shape), labels, names, groups)


def outcome_of(tree: dict) -> str:
    """Build a recipe, take one step of its outer loop, and score a task; say how it ended.

    Returns:
        "refused at the recipe: ...", "refused when built: ...", "refused when run: ...", "diverged: ...", "done" or
        "out of memory". Any other error is raised.
    """
    try:
        return _outcome(tree)
    except Exception as error:
        if is_out_of_memory(error):
            return "out of memory"
        raise


def _outcome(tree: dict) -> str:
    try:
        recipe = recipe_from_tree(tree)
    except RecipeError as error:
        return f"refused at the recipe: {error}"
    try:
        experiment = build(recipe, splits=splits_of_training(recipe))
        meta = experiment.initial_meta()
    except MamlError as error:
        return f"refused when built: {error}"
    try:
        outer = replace(experiment.outer_loop(), num_outer_steps=1, validate_every=recipe.validation.every and 1)
        state = new_state(meta, outer)
        functions = training_functions([experiment], training_execution(experiment))
        for _, record in train({0: state}, {0: outer}, *functions):
            if isinstance(record, NonFiniteError):
                return f"diverged: {record}"
        [evaluation] = score(experiment, [state.meta_params], evaluation_tasks(recipe))
    except MamlError as error:
        return f"refused when run: {error}"
    if not np.isfinite(evaluation.column("query_loss", -1)).all():
        return "diverged: the scores are not finite"
    return "done"
