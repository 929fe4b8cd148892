"""Random recipes get the same verdict from the reader and, by the JSON Schema, from an editor.

Known differences, each with its reason:
- The reader asks what keys say together once each is right by itself; the schema says both at once.
- Six rules compare numbers of several keys, which JSON Schema cannot (`unsaid_rules`).
- Sizes of layers and names of parameters are computed from the recipe (`network_conflicts`); of these the schema says
  only that a head of one layer is learned.
- JSON has no NaN: it is neither above nor below a bound.
"""

from __future__ import annotations

import math
import random

import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mamlcli.recipe.json_rules import unsaid_rules
from mamlcli.recipe.keys import known_keys
from mamlcli.recipe.network_rules import network_conflicts
from mamlcli.recipe.reading import tree_of
from mamlcli.recipe.rules import RULES
from mamlcli.recipe.schema import Recipe
from tests.fuzz.bounds import tries
from tests.helpers.editors import keys_refused_by_editor, keys_refused_by_reader
from tests.helpers.random_recipes import random_tree

KEYS = sorted(known_keys({}))
# Names of trackers, too, are looked up once all else is right.
RULED = {rule.key for rule in RULES} | {"inner.head", "logging"}

# Words as people write them, some of which YAML 1.1 and 1.2 take for different things.
WORDS = ["yes", "no", "On", "OFF", "true", "None", "null", "auto", "kfo", "flip", "1e-3", "1e4", "0.5", ".5", "010"]
WORDS += ["+5", "-1", "2024", "2024-05-01", "''", "[]", "{}", "[flip]", "[head.*]", "{name: kfo}", ".inf", "cpu", "x"]


def has_nan(value: object) -> bool:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, float) and math.isnan(value)) or any(map(has_nan, below))


def left_to_the_reader(tree: object) -> set[str] | None:
    """Return the keys of which only the reader can tell that they are wrong; None where it asks of single keys."""
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError:
        return None
    compared = {rule.key for rule in unsaid_rules() if rule.is_broken(recipe)}
    said = {rule.key for rule in RULES if rule not in unsaid_rules() and rule.is_broken(recipe)}
    return (compared | {key for key, _ in network_conflicts(recipe)}) - said


def check(text: str, path) -> None:
    path.write_text(text, encoding="utf-8")
    of_reader, of_editor = keys_refused_by_reader(str(path)), keys_refused_by_editor(text)
    # The reader names what stands in a short form.
    if "inner.transform" in of_editor:
        of_reader = {key.replace("inner.transform.name", "inner.transform") for key in of_reader}
    tree = tree_of(text)[0]
    alone = left_to_the_reader(tree)
    if alone is None:
        assert of_reader <= of_editor or has_nan(tree)
        assert of_editor - of_reader <= RULED
    else:
        assert of_reader - alone <= of_editor <= of_reader


@given(seed=st.integers(0, 2**32))
@tries(30, 2000)
def test_a_random_recipe_gets_the_same_verdict_from_reader_and_editor(tmp_path_factory, seed):
    tree = random_tree(random.Random(seed), wildness=0.5)
    check(yaml.safe_dump(tree, sort_keys=False), tmp_path_factory.getbasetemp() / "random.yaml")


@given(seed=st.integers(0, 2**32), key=st.sampled_from(KEYS), word=st.sampled_from(WORDS))
@tries(60, 3000)
def test_any_key_with_any_word_gets_the_same_verdict_from_reader_and_editor(tmp_path_factory, seed, key, word):
    """Of one key, which may be another source's: the rest is a random recipe that is right by itself."""
    tree = random_tree(random.Random(seed), wildness=0.0)
    *path, last = key.split(".")
    section = tree
    for name in path:
        section = section[name] if isinstance(section.get(name), dict) else section.setdefault(name, {}) or section
    section[last] = "PLACE"
    text = yaml.safe_dump(tree, sort_keys=False).replace("PLACE", word)
    check(text, tmp_path_factory.getbasetemp() / "words.yaml")
