"""YAML becomes the values that the schema's types want: no text is taken for a date, a number or a bool."""

from __future__ import annotations

import random
from datetime import date

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mamlcli.common.errors import RecipeError
from mamlcli.common.words import no_path
from mamlcli.recipe.files import load_recipe, recipe_from_tree, recipe_to_tree, recipe_to_yaml, shipped_recipes
from mamlcli.recipe.keys import as_yaml, sections
from mamlcli.recipe.reading import tree_of, value_of
from tests.helpers.recipes import SMALL, problem

PATH = ("tasks", "path")
PATTERNS = ("inner", "adapt")
SEED = ("seed",)

# What YAML takes for something else than text, and what it does not take at all.
STRANGE = [
    "2024-05-01",
    "2024",
    "20240501",
    "1e5",
    "0x1F",
    "010",
    "1:30",
    "1_000",
    ".inf",
    "no",
    "on",
    "True",
    "yes",
    "@data",
    "%x",
    "photos: new",
    "a #b",
    "#1",
    "[v2]",
    "{v2}",
    "*best",
    "&x y",
    "`x`",
    "!x",
    "- a",
    "? a",
    "| a",
    "> a",
    "it's",
    'say "a"',
    "'tis",
    "a\\tb",
    "C:\\data\\new",
    "C:",
    "a, b",
    "=",
    "<<",
    "---",
    "a b  c",
    "bilder/fünf",
    "照片",
    "\U0001f600",
]


@pytest.mark.parametrize("text", STRANGE)
def test_text_on_the_command_line_is_what_was_typed(text):
    assert value_of(text, PATH) == text
    assert load_recipe("folder", [f"tasks.path={text}"])[1].tasks.path == text


@pytest.mark.parametrize("text", ["2024-05-01", "20240501", "1e5", "0x1F", "010", "1:30", "no", "On", ".inf", "C:\\x"])
def test_text_in_a_file_needs_no_quotes_where_yaml_sees_a_value_of_another_type(write, text):
    name = write(f"tasks:\n  source: folder\n  path: {text}\nmodel: {{kind: cnn}}\n")
    assert load_recipe(name)[1].tasks.path == text


@pytest.mark.parametrize(
    ("raw", "text"), [('"2024"', "2024"), ("'a''b'", "a'b"), ('"a\\tb"', "a\tb"), ('"null"', "null")]
)
def test_text_in_quotes_is_what_they_hold(raw, text):
    assert value_of(raw, PATH) == text


@pytest.mark.parametrize("raw", ["null", "Null", "~", "", "  "])
def test_null_is_none_where_a_key_may_have_none(raw):
    assert value_of(raw, PATH) is None
    assert value_of(raw, PATTERNS) is None
    assert value_of(raw, ("validation", "every")) is None


def test_the_word_none_is_answered_with_null_in_files_too(small, write):
    expected = "expected an integer, got 'None'. None is written null."
    assert problem(small, "validation.every=None") == f"command line: validation.every: {expected}"
    assert problem(write(f"{SMALL}validation: {{metric: None}}\n")).endswith("got 'None'. None is written null.")
    assert problem("folder", "tasks.path=None") == (
        "command line: tasks.path: expected text, got 'None'. None is written null."
    )
    assert problem("logistic", "inner.adapt=None").endswith("got 'None'. None is written null.")
    assert problem(write(f"{SMALL}inner: {{adapt: None}}\n")).endswith("got 'None'. None is written null.")
    assert problem("logistic", "validation.every=none").endswith("got 'none'. None is written null.")
    assert problem("logistic", "seed=None") == "command line: seed: expected an integer, got 'None'."
    assert load_recipe("folder", ['tasks.path="None"'])[1].tasks.path == "None"


@pytest.mark.parametrize(
    ("raw", "patterns"),
    [
        ("head.*", ["head.*"]),
        ("[head.*]", ["head.*"]),
        ("[*.bias, @x]", ["*.bias", "@x"]),
        ("*.bias,head.*", ["*.bias", "head.*"]),
        ("[hb]*", ["[hb]*"]),
        ("[[hb]*, [0]]", ["[hb]*", "[0]"]),
        ("[h]ead[0]", ["[h]ead[0]"]),
        ("[\"a, b\", 'c']", ["a, b", "c"]),
        ('["*"]', ["*"]),
        ("[2024-05-01, no, 1e3]", ["2024-05-01", "no", "1e3"]),
        ("[]", []),
        ("it's,b", ["it's", "b"]),
    ],
)
def test_list_of_texts_on_the_command_line(raw, patterns):
    assert value_of(raw, PATTERNS) == patterns


def test_list_of_texts_in_a_file_holds_texts(write):
    tree, _ = tree_of("inner: {adapt: [no, 2024-05-01, 7]}")
    assert tree == {"inner": {"adapt": ["no", "2024-05-01", "7"]}}


@pytest.mark.parametrize(
    ("raw", "value"),
    [("10", 10), ("010", 10), ("-08", -8), ("+5", 5), ("1_000", 1000), ("1e4", 10000), ("2.5e3", 2500), ("1E+2", 100)],
)
def test_integer_is_decimal(write, raw, value):
    assert value_of(raw, SEED) == value
    assert type(value_of(raw, SEED)) is int
    assert load_recipe(write(f"{SMALL}seed: {raw}\n"))[1].seed == value


@pytest.mark.parametrize("raw", ["0x1F", "0b11", "0o17", "1:30", "1_", "2024-05-01", "yes 1", "\uff11", "1 0", "ten"])
def test_what_is_no_decimal_number_is_told_as_it_was_written(small, raw):
    assert problem(small, f"seed={raw}") == f"command line: seed: expected an integer, got {raw!r}."


@pytest.mark.parametrize("raw", ["1.0", "1e-4", "1.5e0", "1e999999999"])
def test_number_that_is_no_integer_is_none(small, raw):
    assert problem(small, f"seed={raw}").startswith("command line: seed: expected an integer, got ")


def test_decimal_comma_is_answered_with_the_point(small):
    assert problem(small, "outer.lr=0,1").endswith("got '0,1'. The decimal sign is a point.")


def test_exponent_stays_a_number_where_one_is_wanted():
    assert value_of("1e4", ("outer", "lr")) == 10000.0
    assert type(value_of("1e4", ("outer", "lr"))) is float


@pytest.mark.parametrize(("raw", "value"), [("yes", True), ("True", True), ("on", True), ("no", False), ("OFF", False)])
def test_words_for_true_and_false_are_known_where_one_of_them_is_wanted(raw, value):
    assert value_of(raw, ("inner", "first_order")) is value
    assert value_of(raw, ("execution", "compile")) is value


@pytest.mark.parametrize(("raw", "value"), [("yes", "yes"), ("on", "yes"), ("no", "no"), ("auto", "auto")])
def test_yes_and_no_as_names_take_the_other_words_too(raw, value):
    assert load_recipe("folder", [f"tasks.invert={raw}"])[1].tasks.invert == value


def test_keys_are_texts_whatever_yaml_sees_in_them(write):
    assert problem(write(f"{SMALL}on: 1\n")).startswith("r.yaml:3: on: expected a known key, got 'on'.")
    assert problem(write(f"{SMALL}2024-05-01: 1\n")).startswith("r.yaml:3: 2024-05-01: expected a known key")


def test_lines_are_those_of_the_keys():
    _, lines = tree_of("seed: 1\ninner:\n  transform: {name: kfo}\n")
    assert lines == {("seed",): 1, ("inner",): 2, ("inner", "transform"): 3, ("inner", "transform", "name"): 3}


def test_anchor_may_stand_for_a_text_and_a_number():
    tree, _ = tree_of("seed: &n 2024\ntasks: {path: *n}\n")
    assert tree == {"seed": 2024, "tasks": {"path": "2024"}}


def test_aliases_that_multiply_without_end_are_refused():
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 10))
    with pytest.raises(ValueError, match="values"):
        tree_of(f"l0: &l0 [x]\n{levels}")


def test_every_key_has_one_type_in_all_sections_that_have_it():
    types: dict[str, set] = {}
    for section in sections():
        for key in section.keys:
            names = {word.strip("`") for word in key.types if word.startswith("`")} - {"null"}
            is_text = "text" in key.types or any(not name.isdecimal() for name in names)
            types.setdefault(key.name, set()).add(is_text)
    assert [name for name, kinds in types.items() if len(kinds) > 1] == []


# Written and read back -----------------------------------------------------------------------------------------


def hostile_texts(number=300):
    """Return texts of characters that YAML, shells, terminals or encodings find hard."""
    draw = random.Random(0)
    signs = "aZ09 .,:;#&*@%!|>'\"`[]{}<>?=-_~$\\/\t\n\r\0\x1b\x7f\x85\xa0\u00e9\u0301\u2028\ufeff\udcfc\ue000\U0001f600"
    made = ["".join(draw.choice(signs) for _ in range(draw.randint(1, 12))) for _ in range(number)]
    return [*STRANGE, "None", "null", "~", "=", "", " a", "a ", "x" * 200, "a b " * 60, *made]


def hostile_paths():
    return [text for text in hostile_texts() if no_path(text) is None]


def with_path(text):
    return recipe_from_tree({"tasks": {"source": "folder", "path": text}, "model": {"kind": "cnn"}})


def test_recipe_of_any_text_is_read_back_equal(write):
    for text in hostile_paths():
        recipe = with_path(text)
        assert load_recipe(write(recipe_to_yaml(recipe)))[1] == recipe, repr(text)


def test_value_of_any_text_as_a_word_of_the_command_line_is_read_back_equal():
    for text in hostile_texts():
        assert value_of(as_yaml(text), PATH) == text, repr(text)
        assert value_of(as_yaml([text, "b"]), PATTERNS) == [text, "b"], repr(text)


def test_recipes_that_were_written_before_are_read_as_they_were(write):
    """Before, YAML's own types decided; what they wrote reads the same by ours."""
    for text in hostile_paths():
        written = yaml.safe_dump(recipe_to_tree(with_path(text)), sort_keys=False, allow_unicode=True)
        before = yaml.safe_load(written)["tasks"]["path"]
        if text != "None":
            assert tree_of(written)[0]["tasks"]["path"] == before, repr(text)
    assert yaml.safe_load("2024-05-01") == date(2024, 5, 1)  # what is not guessed any more


def test_a_pattern_without_brackets_in_a_file_is_shown_as_it_was_written(write):
    assert problem(write(f"{SMALL}inner: {{adapt: 010}}\n")).endswith("inner.adapt: expected a list, got '010'.")


# Texts of strangers ----------------------------------------------------------------------------------------------


def nested(form: str, levels: int, last: str) -> str:
    """Return YAML in which every level names the one before it several times."""
    return "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} {form.format(n - 1)}\n" for n in range(1, levels)) + last


@pytest.mark.parametrize(
    "text",
    [
        nested("{{x: *a{0}, y: *a{0}}}", 40, "seed: *a39"),
        nested("[*a{0}, *a{0}, *a{0}, *a{0}]", 20, "seed: *a19"),
        nested("[*a{0}, *a{0}, *a{0}, *a{0}]", 20, "? *a19\n: 1"),
        nested("{{<<: [*a{0}, *a{0}]}}", 40, "<<: *a39").replace("[x, x]", "{k: v}"),
        f"a: &a {'x' * 100_000}\nseed: [{', '.join(['*a'] * 9000)}]",
        "a: &a [*a]",
        "[" * 50_000,
        "\n".join(f"key{n}: 1" for n in range(9000)),
        "k" * 100_000 + ": 1",
    ],
)
def test_texts_that_multiply_are_refused_in_a_few_words(write, text):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text))
    assert len(str(caught.value)) < 100_000


@pytest.mark.parametrize(
    "value", ["!!bool maybe", "!!float ''", "!!timestamp x", "!!binary '#'", "!!set [a]", "!!omap {a: b}", "1" * 5000]
)
def test_a_value_that_is_not_what_its_tag_says_is_refused(write, value):
    with pytest.raises(RecipeError):
        load_recipe(write(f"seed: {value}"))
    with pytest.raises(RecipeError):
        load_recipe("sinusoid", [f"seed={value}"])


def test_a_file_of_megabytes_is_refused_unread(write):
    with pytest.raises(RecipeError, match="a file of more than 256,000 bytes"):
        load_recipe(write("# " + "x" * 300_000))


# Two loaders -----------------------------------------------------------------------------------------------------


def _outcome(text: str) -> object:
    """Return what a text is read as, or the error with its line."""
    try:
        return repr(tree_of(text))
    except yaml.MarkedYAMLError as error:
        return (str(error.problem), error.problem_mark and error.problem_mark.line)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return (type(error), str(error))


def _slow_outcome(text: str) -> object:
    """Return the outcome without libyaml."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mamlcli.recipe.reading._FAST", None)
        return _outcome(text)


_ODD = [
    "",
    "-",
    "- a",
    "-1",
    "'a b'",
    '"a: b"',
    "'",
    '"\\',
    "[1, 2]",
    "[a, 'b']",
    "[",
    "[]",
    "{}",
    "&a b",
    "*a",
    "a*.b",
]
_ODDER = [
    "null",
    "~",
    "---",
    "...",
    "1e3",
    "a, b; c",
    "a b#c",
    "a b # c",
    "<<",
    "!!int 1",
    "| x",
    "> x",
    "a\tb",
    "é",
    ".5",
]
_VALUES = st.sampled_from([*STRANGE, *_ODD, *_ODDER])
_LINES = st.builds(
    lambda indent, start, value, end: f"{' ' * indent}{start}{value}{end}",
    st.sampled_from([0, 0, 0, 2, 2, 4, 1, 13]),
    st.sampled_from(["tasks:", "tasks: ", "path: ", "seed: ", "inner: ", "steps: ", "inner:", "- ", "# ", "", "a:b: "]),
    _VALUES,
    st.sampled_from(["", "", "  # why", "#", " "]),
)


@given(st.lists(_LINES, max_size=8).map("\n".join), st.sampled_from(["\n", ""]))
def test_libyaml_reads_what_python_reads_and_refuses_what_it_refuses_by_the_same_words(text, end):
    assert _outcome(text + end) == _slow_outcome(text + end)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
def test_what_we_write_is_read_by_libyaml(monkeypatch):
    def fail(*args: object) -> None:
        raise AssertionError("read by Python")

    texts = [recipe_to_yaml(load_recipe(name)[1].without_reference()) for name in shipped_recipes()]
    expected = list(map(_slow_outcome, texts))
    monkeypatch.setattr("mamlcli.recipe.reading._Loader", fail)
    assert list(map(_outcome, texts)) == expected


@pytest.mark.parametrize("sign", ["- ", "[", "{a: ", "? "])
def test_a_hundred_thousand_levels_are_refused_and_crash_nothing(sign):
    with pytest.raises(RecursionError):
        tree_of(sign * 100_000)
