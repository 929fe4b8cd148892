"""The documentation does what it says: every command line, Python block, link and worked example in it is run.

Commands run in this process, in one folder for each document, in their order, with amounts cut down: `shortened` has
every rule. What cannot run here is in `NOT_RUN`, with the reason, and is only parsed.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import mamlcli
from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.reference import recipe_reference
from mamlcli.recipe.rules import RULES
from mamlcli.recipe.schema import Recipe
from tests.helpers.image_files import class_folders, drawing, omniglot_folders, save
from tests.helpers.running import noise_pack

ROOT = Path(mamlcli.__file__).parents[1]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
CONTRIBUTING = DOCUMENTS["CONTRIBUTING.md"].read_text()
EVERY_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS)

NOT_RUN = {("data", "fetch"): "needs the network"}

# What a document takes for granted: commands that are run before its own.
BEFORE = {"docs/data.md": ["mamlcli train"]}

# What is in a document ----------------------------------------------------------------------------------------------


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield (language, content) of every fenced block, also of indented ones."""
    for indent, language, content in re.findall(r"^( *)```(\w*)\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE):
        yield language, textwrap.dedent("".join(line.removeprefix(indent) for line in content.splitlines(True)))


def command_lines(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every command line of a document and the output that is shown below it, where it starts with `$ `."""
    for language, content in blocks(text):
        if language not in ("", "bash", "sh", "console"):
            continue
        lines = content.replace("\\\n", " ").splitlines()
        for index, line in enumerate(lines):
            if re.match(r"(\$ )?mamlcli( |$)", line):
                rest = lines[index + 1 :] if line.startswith("$ ") else []
                shown = [other for other in rest if other and not other.startswith("$ ")]
                yield line.removeprefix("$ "), shown


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)


# Commands -------------------------------------------------------------------------------------------------------------


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command, or the group of commands, that words name, and the words after its name."""
    command: Any = _root()
    rest = words
    while rest and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"{' '.join(words)}: no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


@functools.cache
def _root() -> Any:
    from mamlcli.cli.app import app

    return get_command(app)


def parse(words: list[str]) -> None:
    """Fail where the command line is none."""
    command, rest = command_of(words)
    assert not hasattr(command, "commands"), f"{' '.join(words)}: a group of commands"
    command.make_context("mamlcli", list(rest))


# Amounts, not kinds: what is computed stays as documented.
AMOUNTS = {
    "outer.iterations": 2,
    "outer.tasks": 2,
    "evaluation.tasks": 2,
    "validation.every": 2,
    "validation.tasks": 2,
    "execution.device": "cpu",
    "execution.threads": 1,
}
IMAGE_AMOUNTS = {"model.width": 3, "tasks.queries": 2, "evaluation.steps": 2}


def amounts_of(recipe: Recipe) -> list[str]:
    amounts = AMOUNTS | (IMAGE_AMOUNTS if recipe.model.kind == "cnn" else {})
    return [f"{key}={value}" for key, value in amounts.items()]


def overrides_for(words: list[str], default: str) -> list[str]:
    """Return what shortens a command whose first word may be a recipe or a run."""
    is_named = bool(words) and not words[0].startswith("-") and "=" not in words[0]
    name = words[0] if is_named else default
    recipe = f"{name}/recipe.yaml" if Path(name).is_dir() else name
    return amounts_of(load_recipe(recipe, [word for word in words[is_named:] if re.match(r"[a-z_.]+=", word)])[1])


def with_option(words: list[str], option: str, value: object) -> list[str]:
    """Return the words with an option set to a value, in place of the one it has."""
    return [*without_option(words, option), option, str(value)]


def without_option(words: list[str], option: str) -> list[str]:
    if option not in words:
        return list(words)
    index = words.index(option)
    return words[:index] + words[index + 2 :]


def shortened(words: list[str]) -> list[str]:
    """Return a command line that does the same in a moment."""
    for option in ("--on", "--per-gpu"):  # places other than this machine have their own tests
        words = without_option(words, option)
    name, rest = words[0], words[1:]
    rest = without_option(rest, "--device")
    if name == "train" and "--resume" not in rest:
        # Workers are processes of their own; they have their own tests.
        rest = without_option(rest, "--workers")
        return [name, *rest, *overrides_for(rest, "glyphs-5way-1shot")]
    if name == "train":
        # A run that goes on keeps its recipe, but for its length: two iterations, and two more.
        return [name, *(re.sub(r"(outer\.iterations)=.*", r"\1=4", word) for word in rest)]
    if name in ("adapt", "layers") and "--support" not in rest:
        return [name, *with_option(rest, "--tasks", 4)]
    if name in ("sweep-depth", "add-linear", "meta-opt") and "--collapse" not in rest:
        rest += overrides_for(rest, "logistic")
        for option, value in {"--seeds": 1, "--jobs": 1, "--inner-lrs": 0.5}.items():
            rest = with_option(rest, option, value)
        if name == "add-linear":
            return [name, *with_option(rest, "--layers", "0,1")]
        if name == "sweep-depth":
            return [name, *with_option(rest, "--depths", "1,2"), "--no-capacity"]
        rest = with_option(rest, "--depths", "1") if "--depths" in rest else rest
        return [name, *with_option(rest, "--optimizers", "none,kfo")]
    if name == "reproduce":
        return [name, *with_option(without_option(rest, "--seeds"), "--scale", "smoke"), "--dry-run"]
    if name == "bench":
        if "--tune" in rest:
            recipe = [word for word in rest if not word.startswith("-")]
            rest += overrides_for(recipe, "glyphs-5way-1shot")
        else:
            rest = with_option(rest, "--cases", "tiny")
        return [name, *with_option(rest, "--repeats", 1), "--device", "cpu"]
    if words[:2] == ["recipes", "verify"]:
        rest = [*with_option(words[2:], "--seeds", 1), *overrides_for(words[2:], "")]
        return [*words[:2], *rest, "reference.margin=1e9"]  # at this length no number is reproduced
    if words[:3] == ["data", "import", "omniglot"]:  # the whole set is there already, for the other commands
        return [*words, "--name", "omniglot-copy"]
    return words


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """A data folder with an Omniglot of noise that has every class of the split."""
    from mamlcli.tasks.images.class_splits import class_split
    from mamlcli.tasks.images.packs import Pack

    folder = tmp_path_factory.mktemp("packs")
    nothing = Pack(np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64), ())
    names = [name for split in class_split("omniglot", nothing).values() for name in split]
    noise_pack(folder / "omniglot.npz", names, shape=(28, 28, 1), name="omniglot")
    return folder


@pytest.fixture
def here(tmp_path, packs, with_glyphs, monkeypatch):
    """The folder that documents talk about: its placeholders (DIR, FOLDER, PACK) are real, and studies need no pool."""
    (tmp_path / "data").mkdir()
    os.link(packs / "omniglot.npz", tmp_path / "data" / "omniglot.npz")
    class_folders(tmp_path / "DIR", [f"class{index:02d}" for index in range(32)], num_images=3, side=16)
    class_folders(tmp_path / "photos", ["birds", "cats", "dogs"])
    class_folders(tmp_path / "new", ["unknown"])
    omniglot_folders(tmp_path / "FOLDER")
    noise_pack(tmp_path / "PACK.npz", [f"class{index:02d}" for index in range(32)], num_images=3)
    (tmp_path / "PACK.npz").rename(tmp_path / "PACK")
    save(tmp_path / "page.png", drawing(40))
    monkeypatch.setattr("mamlcli.studies.sweeps.run.run_jobs", run_jobs_here)
    _make_bench_short(monkeypatch)
    return tmp_path


def run_jobs_here(jobs, *, on_start=None, on_end=None, **options):
    """Do the jobs of a study in this process: the pool has its own tests, and importing torch takes seconds."""
    from mamlcli.common.processes.jobs import Outcome

    def nothing(*about):
        pass

    outcomes = {}
    for job in jobs:
        (on_start or nothing)(job, os.getpid())
        outcomes[job.key] = Outcome(job.key, "done", job.function(job.payload, lambda: False))
        (on_end or nothing)(outcomes[job.key])
    return outcomes


def _make_bench_short(monkeypatch):
    from mamlcli.bench import cases
    from tests.helpers.benches import TINY_CASE, make_bench_quick

    monkeypatch.setitem(cases.CASES, "tiny", TINY_CASE)
    make_bench_quick(monkeypatch)


@EVERY_DOCUMENT
def test_every_command_line_runs_in_the_order_of_the_document(document, cli, here):
    before = [(line, []) for line in BEFORE.get(document, [])]
    for line, shown in [*before, *command_lines(DOCUMENTS[document].read_text())]:
        words = shlex.split(line, comments=True)[1:]
        parse(words)
        if tuple(words[:2]) in NOT_RUN:
            continue
        is_mistake = any(text.startswith("error: ") for text in shown)
        done = cli(*(words if shown else shortened(words)))
        assert done.code == (1 if is_mistake else 0), f"{line}\n{done.err}"
        for text in shown:
            assert text in done.out + done.err, line


@EVERY_DOCUMENT
def test_every_command_that_is_mentioned_is_one(document):
    for text in re.findall(r"`mamlcli ([^`]+)`", prose(DOCUMENTS[document].read_text())):
        words = text.split()
        if words[0].startswith("-"):
            continue
        found, rest = command_of(words)
        options = {name for parameter in found.params for name in parameter.opts} | {"--help"}
        assert {word for word in rest if word.startswith("--")} <= options, f"mamlcli {text}"


@EVERY_DOCUMENT
def test_every_make_target_is_one(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = DOCUMENTS[document].read_text()
    lines = [line for language, content in blocks(text) if not language for line in content.splitlines()]
    named = [line.split()[1] for line in lines if line.startswith("make ")]
    assert {*named, *re.findall(r"`make ([a-z-]+)`", text)} <= targets


@EVERY_DOCUMENT
def test_every_python_block_runs(document, here, monkeypatch, one_thread):
    """Blocks of a document share their names, as the cells of a notebook do; `mamlcli.train` is shortened."""
    train = mamlcli.train

    def short_train(recipe="glyphs-5way-1shot", *overrides, **options):
        amounts = amounts_of(load_recipe(recipe)[1])
        if "network" in options:  # it has no keys
            amounts = [amount for amount in amounts if not amount.startswith("model.")]
        return train(recipe, *overrides, *amounts, **options)

    monkeypatch.chdir(here)
    monkeypatch.setattr(mamlcli, "train", short_train, raising=False)
    names = {}
    for language, content in blocks(DOCUMENTS[document].read_text()):
        if language == "python":
            exec(compile(content, document, "exec"), names)


def test_the_interface_that_is_documented_is_the_one_there_is():
    text = (ROOT / "docs" / "python.md").read_text()
    runs = (mamlcli.train, mamlcli.load, mamlcli.adapt, mamlcli.predict, mamlcli.score, mamlcli.compare)
    for function in (*runs, mamlcli.sweep, mamlcli.reproduce):
        call = next(line for line in text.splitlines() if line.startswith(f"| `{function.__name__}("))
        documented = re.findall(r"[(*, ](\w+)(?:=[^,)]+)?(?=[,)])", call.split("->")[0])
        assert documented == list(inspect.signature(function).parameters), function.__name__
    fields = {name for name in vars(mamlcli.Run)["__dataclass_fields__"] if not name.startswith("_")}
    assert all(f"`{name}`" in text for name in fields)


# Files ----------------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*DOCUMENTS.values(), ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_link_and_image_is_there(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        assert file.exists(), f"{path.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{path.name}: {target}"


# Files that the program writes, and those that a reader makes; all others that a document names are in the project.
WRITTEN = {"module.py", "report.md"}


@EVERY_DOCUMENT
def test_every_source_file_that_is_named_is_in_the_project(document):
    text = DOCUMENTS[document].read_text()
    there = [path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.*")]]
    for name in set(re.findall(r"[\w./-]*\w\.(?:py|md|cfg|toml)\b", prose(text))) - WRITTEN:
        full = name.lstrip("./")
        assert any(path == full or path.endswith(f"/{full}") for path in there), f"{document}: {name}"


@EVERY_DOCUMENT
def test_every_module_that_is_named_can_be_imported(document):
    for name in set(re.findall(r"`(mamlcli(?:\.\w+)+)", prose(DOCUMENTS[document].read_text()))):
        parts = name.split(".")
        module = importlib.import_module(".".join(parts[:-1]))
        assert hasattr(module, parts[-1]) or importlib.util.find_spec(name), f"{document}: {name}"


def test_every_name_in_the_worked_examples_is_in_the_code():
    """A worked example says where to look: what it calls by name is there."""
    section = CONTRIBUTING.split("## Worked examples")[1].split("## Tests")[0]
    names = set(re.findall(r"`(_?[A-Za-z]+_\w+|[A-Z][A-Za-z]*[a-z]\w*|[A-Z]{3,}_?[A-Z]*)`", prose(section)))
    sources = [*(ROOT / "mamlcli").rglob("*.py"), *(ROOT / "tests" / "engine").rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    assert {"NETWORKS", "_layers_of", "is_linear", "SOURCES", "TaskDistribution"} <= names
    assert not [name for name in names if not re.search(rf"\b{name}\b", code)]


def test_recipe_reference_is_up_to_date():
    assert (ROOT / "docs" / "recipes.md").read_text() == recipe_reference(), "run: make docs"


def test_recipe_reference_has_every_conflict():
    text = recipe_reference().split("## Keys that do not go together")[1]
    assert all(f"\n- {rule.sentence}\n" in text for rule in RULES)


# Worked examples ------------------------------------------------------------------------------------------------------


def changes() -> list[tuple[str, str, str]]:
    """Return (file, text there, text instead) of every change that CONTRIBUTING shows."""
    found = []
    for language, content in blocks(CONTRIBUTING):
        if language == "diff":
            file, *lines = content.splitlines()
            old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
            new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
            found.append((file, old, new))
    return found


@pytest.mark.parametrize(("file", "old", "new"), changes())
def test_place_of_a_change_is_found_once(file, old, new):
    assert (ROOT / file).read_text().count(old) == 1, f"{file}: CONTRIBUTING no longer fits the code:\n{old}"


@pytest.fixture(scope="module")
def changed_copy(tmp_path_factory):
    """A copy of the code with all that CONTRIBUTING shows, and a function that runs Python in it."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache")
    shutil.copytree(ROOT / "mamlcli", folder / "mamlcli", ignore=ignored)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for file, old, new in changes():
        path = folder / file
        path.write_text(path.read_text().replace(old, new))
    (recipe,) = [content for language, content in blocks(CONTRIBUTING) if language == "yaml"]
    (folder / "recipes" / "square-wave.yaml").write_text(recipe)

    def run(*words, **variables):
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"} | variables
        command = [sys.executable, "-m", "mamlcli", *words]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return folder, run


def test_worked_examples_of_transform_data_set_and_recipe_train_together(changed_copy):
    _, run = changed_copy
    keys = ["inner.transform=tensor-scale", "outer.iterations=2", "outer.tasks=3", "validation.every=null"]
    assert '"true function"' in run("train", "square-wave", *keys, "evaluation.tasks=3", "--json")
    assert "square-wave" in run("data", "ls")


def test_worked_transform_is_completed(changed_copy):
    _, run = changed_copy
    shell = {"_MAMLCLI_COMPLETE": "complete_zsh"}
    for typed in ("train inner.transform=tens", "train inner.transform.name=tens", "meta-opt --optimizers none,tens"):
        assert "tensor-scale" in run(**shell, _TYPER_COMPLETE_ARGS=f"mamlcli {typed}")


def test_worked_transform_and_data_set_are_studied_with_a_figure(changed_copy):
    folder, run = changed_copy
    small = ["outer.iterations=2", "outer.tasks=2", "validation.every=2", "validation.tasks=2", "evaluation.tasks=4"]
    chosen = ["--optimizers", "none,tensor-scale", "--seeds", "1", "--inner-lrs", "0.01", "--jobs", "1"]
    for study, depths in (("of-one-depth", []), ("of-two-depths", ["--depths", "1,2"])):
        run("meta-opt", "square-wave", *small, *chosen, *depths, "--dir", study)
        assert "tensor-scale" in (folder / study / "figure.svg").read_text()


def test_worked_transform_has_a_look_in_every_figure(changed_copy):
    folder, _ = changed_copy
    code = (
        "from mamlcli.common.names import TRANSFORMS; from mamlcli.common.figures import TRANSFORM_SERIES\n"
        "assert set(TRANSFORM_SERIES) == set(TRANSFORMS) > {'tensor-scale'}, TRANSFORM_SERIES\n"
        "assert len(set(TRANSFORM_SERIES.values())) == len(TRANSFORMS)"
    )
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_worked_transform_passes_the_tests_of_transforms():
    from tests.engine import test_transforms

    names = {**vars(sys.modules["mamlcli.engine.transforms"])}
    (new,) = [new for file, _, new in changes() if "class TensorScale" in new]
    exec(new[: new.rindex("@dataclass")], names)
    transform = names["TensorScale"]()
    tests = {name: value for name, value in vars(test_transforms).items() if name.startswith("test_")}
    passed = []
    for name, test in tests.items():
        if list(inspect.signature(test).parameters) == ["transform"]:
            test(transform)
            passed.append(name)
    assert len(passed) >= 3


def test_recipe_example_says_all_that_a_header_says():
    (recipe,) = [content for language, content in blocks(CONTRIBUTING) if language == "yaml"]
    for word in ("Reproduces", "Source", "Command", "Expect", "Time"):
        assert f"# {word}: " in recipe
