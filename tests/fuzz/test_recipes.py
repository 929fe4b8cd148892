"""Recipes and overrides of strangers."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mamlcli.recipe.files import load_recipe, recipe_from_tree, recipe_to_tree, recipe_to_yaml
from mamlcli.recipe.keys import known_keys
from tests.fuzz.bounds import bounded, run, tries
from tests.fuzz.inputs import scalars, texts, values

KEYS = sorted(known_keys({}))
RECIPES = ("glyphs-5way-1shot", "sinusoid", "linear-regression")

# Pieces of YAML that mean something to its reader, in any order.
PIECES = (
    *("a", "tasks", "model", "seed", "source", "kind", "cnn", "1", "-1", "1e9", "0x10", "1_0", ".inf", ".nan", "null"),
    *(": ", ":", "- ", ", ", "[", "]", "{", "}", "? ", "\n", "\n  ", "\t", "&a ", "*a ", "<<: ", "*a", "|\n", ">-\n"),
    *("'", '"', "#", "%YAML 9.9\n", "---\n", "...\n", "\\ud800", "\x1b[31m", "\udcfc", "\ufeff", "\u2028", "\0"),
    *(
        "!!bool ",
        "!!int ",
        "!!float ",
        "!!binary ",
        "!!timestamp ",
        "!!set ",
        "!!omap ",
        "!!pairs ",
        "!!python/name:os ",
    ),
    *("!!str ", "!!null ", "!!map ", "!!seq ", "!x ", "! ", "9" * 50),
)
pieces = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
documents = st.one_of(
    pieces,
    pieces.map(lambda text: f"tasks: {{source: sinusoid}}\nmodel: {{kind: mlp}}\n{text}"),
    st.binary(max_size=60),
    values.map(lambda value: yaml.safe_dump(value, allow_unicode=True)),
)
raw_values = st.one_of(pieces, texts, scalars.map(str))
overrides = st.tuples(st.one_of(st.sampled_from(KEYS), texts), raw_values).map("=".join)


@given(document=documents)
@tries(150, 4000)
def test_a_file_is_a_recipe_or_told_what_is_wrong(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    data = document if isinstance(document, bytes) else document.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    with bounded():
        load_recipe(str(path))


@given(name=st.sampled_from(RECIPES), words=st.lists(overrides, min_size=1, max_size=4))
@tries(150, 4000)
def test_overrides_make_a_recipe_that_is_read_back_or_are_told_what_is_wrong(tmp_path_factory, name, words):
    with bounded():
        recipe = load_recipe(name, words)[1]
        path = tmp_path_factory.getbasetemp() / "written.yaml"
        path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
        assert load_recipe(str(path))[1] == recipe


@given(key=st.sampled_from(KEYS), value=values)
@tries(100, 1500)
def test_a_value_from_python_is_taken_or_told_what_is_wrong(key, value):
    tree = recipe_to_tree(load_recipe("sinusoid")[1])
    *path, last = key.split(".")
    section = tree
    for name in path:
        section = section[name] if isinstance(section.get(name), dict) else section.setdefault(name, {}) or section
    section[last] = value
    with bounded():
        recipe_from_tree(tree)


@given(document=documents)
@tries(10, 500)
def test_the_command_line_shows_nothing_raw(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "shown.yaml"
    data = document if isinstance(document, bytes) else document.encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    run("recipes", "check", path)
