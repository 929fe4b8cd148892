"""Random recipes: each is refused in words that name a key, or it is built, takes a step and is scored.

`make soak` has more of them. Of rarer values: `outcome_of(random_tree(random.Random(SEED), wildness=1.0))` of the
helpers.
"""

import random
import re

import pytest

from mamlcli.common.names import IMAGE_SHAPES
from tests.fuzz.bounds import IS_SOAK
from tests.helpers.random_recipes import outcome_of, pack_of, random_tree

NUM_GROUPS, NUM_RECIPES = 80 if IS_SOAK else 3, 30

# `<place>: <key>: expected <what>`; what the data alone can tell names the data after the key.
REFUSED = re.compile(r"(recipe: )?[a-z_]+(\.[a-z_]+)*( \+ [a-z_.]+)?( \(noise, .*?\))?: expected .*\.")
OF_DATA = ("tasks.class_split=folders: expected ", "tasks.ways (noise): expected ")


@pytest.mark.parametrize("group", range(NUM_GROUPS))
def test_a_random_recipe_is_refused_in_words_or_takes_a_step(group, one_thread, monkeypatch):
    for source, (channels, *_) in IMAGE_SHAPES.items():
        monkeypatch.setitem(IMAGE_SHAPES, source, (channels, 9, 9))  # a square of their pixels would take seconds
    outcomes = []
    for seed in range(group * NUM_RECIPES, (group + 1) * NUM_RECIPES):
        chance = random.Random(seed)
        tree = random_tree(chance)
        monkeypatch.setattr(
            "mamlcli.training.data.load_image_pack", lambda tasks, chance=chance: (pack_of(tasks, chance), "noise", [])
        )
        outcome = outcome_of(tree)
        outcomes.append(outcome)
        how, _, message = outcome.partition(": ")
        if how.startswith("refused"):
            worded = [line for line in message.splitlines() if REFUSED.fullmatch(line) or line.startswith(OF_DATA)]
            assert worded == message.splitlines(), f"seed {seed}"
    # The walk is worth its time only while most recipes are not refused.
    assert outcomes.count("done") > NUM_RECIPES / 4
