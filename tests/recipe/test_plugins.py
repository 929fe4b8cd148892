"""Names of installed packages in recipes: checked by their own keys, without torch, and nothing else breaks by them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from mamlcli.common.errors import RecipeError
from mamlcli.recipe.files import find_recipe, load_recipe, recipe_from_tree, recipe_to_yaml
from mamlcli.recipe.json_schema import recipe_schema
from mamlcli.recipe.keys import known_keys, section_at, tag_values
from mamlcli.recipe.plugins import own_names, plugin_names, plugin_recipes
from tests.helpers.plugins import forget, install, install_example, one_file_fixture  # noqa: F401

TREE = {"tasks": {"source": "lines"}, "model": {"kind": "net"}, "inner": {"transform": "half"}}


@pytest.fixture(autouse=True)
def fresh():
    yield
    forget()


def problems(*words: str, recipe: str = "sinusoid") -> str:
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe, words)
    return str(error.value)


def test_recipe_names_what_is_installed_and_is_written_and_pickled(one_file):
    recipe = recipe_from_tree(TREE)
    assert (recipe.model.width, recipe.tasks.shots, recipe.inner.transform.parameters) == (8, 10, ["*"])
    (one_file / "r.yaml").write_text(recipe_to_yaml(recipe))
    assert load_recipe(str(one_file / "r.yaml"))[1] == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert recipe.is_classification is False


def test_keys_have_types_bounds_and_nearest_names(one_file):
    (one_file / "r.yaml").write_text("tasks: {source: lines}\nmodel: {kind: net, word: off, width: 1e2}\n")
    model = load_recipe(str(one_file / "r.yaml"), ["model.word=no"])[1].model
    assert (model.word, model.width) == ("no", 100)
    text = problems(
        "model.width=0",
        "model.widht=3",
        "inner.transform.name=half",
        "inner.transform.start=1",
        recipe=str(one_file / "r.yaml"),
    )
    assert "model.width: expected an integer >= 1, got 0." in text
    assert (
        "model.widht: expected a known key, got 'widht'. Did you mean 'width'? The keys are kind, width, word." in text
    )
    assert "inner.transform.start: expected a known key" in text


def test_names_complete_and_docs_do_not_depend_on_what_is_installed(one_file):
    assert "net" in known_keys({})["model.kind"].values
    assert "half" in known_keys({})["inner.transform"].values
    keys = known_keys({"model": "net", "tasks": "lines", "inner.transform": "half"})
    assert keys["model.width"].description == "units"
    assert "model.depth" not in keys
    assert "inner.transform.hidden_width" not in keys
    assert section_at(("model",), {"model": "net"}).doc == "One hidden layer."
    assert "net" not in tag_values("model")


def test_own_names_are_those_of_the_schema():
    assert own_names("model") == ("cnn", "mlp", "linear", "python")
    assert own_names("tasks") == tuple(tag_values("tasks"))
    assert {"none", "kfo", "python"} <= set(own_names("inner.transform"))


def test_schema_for_editors_has_installed_names_only_where_it_is_asked_for(one_file):
    validator = jsonschema.Draft7Validator(recipe_schema(with_plugins=True))
    assert not list(validator.iter_errors(TREE))
    assert list(validator.iter_errors({**TREE, "model": {"kind": "net", "width": 0}}))
    assert list(validator.iter_errors({**TREE, "inner": {"transform": {"name": "half", "hidden_layers": 2}}}))
    assert not list(validator.iter_errors({**TREE, "inner": {"transform": {"hidden_layers": 2}}}))
    assert list(jsonschema.Draft7Validator(recipe_schema()).iter_errors(TREE))


def test_check_loads_the_keys_alone_and_a_name_that_is_not_used_loads_nothing(one_file):
    code = (
        "import sys; from mamlcli.recipe.files import load_recipe; load_recipe('sinusoid');"
        "assert 'one_file' not in sys.modules; load_recipe('sinusoid', ['model={kind: net}']);"
        "assert 'one_file' in sys.modules and 'torch' not in sys.modules"
    )
    path = [str(one_file / "site"), str(Path(__file__).parents[2])]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(path)})


def test_package_that_fails_breaks_nothing_but_its_own_name(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "site", "raise RuntimeError('no licence')", networks="net = one_file:Net")
    assert load_recipe("sinusoid")
    text = problems("model={kind: net}")
    assert text.startswith("command line: model.kind: expected one_file 1.5, which has 'net', to be imported")
    assert "RuntimeError: no licence" in text
    assert "uninstall one_file" in text
    assert recipe_schema(with_plugins=True)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("Net = 3", "a class derived from mamlcli.NetworkKeys at one_file:Net of one_file 1.5, got 3"),
        ("from mamlcli import TasksKeys\nclass Net(TasksKeys): code = 'a:b'", "derived from mamlcli.NetworkKeys"),
        ("from mamlcli import NetworkKeys as Net", "derived from mamlcli.NetworkKeys"),
        ("from mamlcli import NetworkKeys\nclass Net(NetworkKeys): pass", 'code = "module:function"'),
        ("from mamlcli import NetworkKeys\nclass Net(NetworkKeys): code = 'a b'", "got 'a b'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("", "AttributeError"),
    ],
)
def test_entry_point_of_something_else_is_one_sentence(monkeypatch, tmp_path, code, words):
    install(monkeypatch, tmp_path / "site", code, networks="net = one_file:Net")
    assert words in problems("model={kind: net}")


def test_name_of_two_packages_is_of_neither_and_a_name_of_ours_stays_ours(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "site", "", networks="net = one_file:Net\nmlp = one_file:Net")
    install(monkeypatch, tmp_path / "more", "", package="other", networks="net = other:Net")
    assert "'net' of" in (text := problems("model={kind: net}"))
    assert "one_file 1.5" in text
    assert "other 1.5" in text
    assert plugin_names("model") == ("net",)
    assert load_recipe("sinusoid")[1].model.kind == "mlp"


def test_name_that_is_not_installed_says_which_are(one_file):
    text = problems("model={kind: nets}", "tasks={source: zzzz}", "inner.transform=haff")
    assert "model.kind: expected one of cnn, mlp, linear, python, net, got 'nets'. Did you mean 'net'?" in text
    assert "lines, blobs" in text.replace("blobs, lines", "lines, blobs")
    assert "Installed packages add names by the entry point mamlcli.tasks." in text
    assert "'python' or 'half', got 'haff'. Did you mean 'half'?" in text


def test_recipes_of_packages_are_found_by_name_without_an_import(monkeypatch, tmp_path):
    install_example(monkeypatch, tmp_path / "site")
    assert list(plugin_recipes()) == ["gated-steps"]
    assert find_recipe("gated-steps").name == "gated-steps.yaml"
    assert "mamlcli_example" not in sys.modules
    assert load_recipe("gated-steps")[1].model.kind == "gated"
    assert "mamlcli_example.parts" not in sys.modules
