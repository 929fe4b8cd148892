"""The house: ten folders in one order, imports only downwards, no circle of files within a folder."""

from __future__ import annotations

import ast
import configparser
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli
from tests.helpers.house_map import with_map
from tests.helpers.long_files import LONGEST

ROOT = Path(mamlcli.__file__).parent

# A file imports from its own folder and from folders before it.
ORDER = (
    "common",
    "recipe",
    "runs",
    "tasks",
    "engine",
    "training",
    "deploy",
    "bench",
    "studies",
    "api",
    "cli",
    "__main__",
)
FOLDERS = set(ORDER) - {"api", "__main__"}

# The part that computes: it could be used without recipes, files or a terminal.
COMPUTING = ("tasks", "engine")
OF_COMMON_FOR_COMPUTING = {
    "adapted",
    "architecture",
    "bounded",
    "commands",
    "disk",
    "errors",
    "files",
    "leftovers",
    "names",
    "seeds",
    "statistics",
    "words",
    "processes.place",
}
PACKAGES_NOT_FOR_COMPUTING = {"rich", "typer", "matplotlib", "yaml", "pydantic"}

# Folders that are loaded by commands that compute nothing.
WITHOUT_TORCH = ("common", "recipe", "runs")
COMPUTING_FILES_OF_COMMON = {"mamlcli.common.machine"}


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    paths = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


MODULES = modules()


def folder_of(module: str) -> str:
    """Return the folder of a dotted module name: `mamlcli.tasks.images.packs` is in `tasks`."""
    return [*module.split("."), "mamlcli"][1]


def imports(tree: ast.AST) -> set[str]:
    """Return the dotted names that a tree imports, wherever: in functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            # `from mamlcli.runs import folder` imports the module mamlcli.runs.folder.
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name for name in below if name in MODULES} or {str(node.module)}
    return names


# Every file is parsed once: some of the checks below look at all files for each file.
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
IMPORTS = {name: imports(tree) for name, tree in TREES.items()}


def ours(module: str) -> set[str]:
    return {name for name in IMPORTS[module] if name.partition(".")[0] == "mamlcli"}


def packages(module: str) -> set[str]:
    return {name.partition(".")[0] for name in IMPORTS[module]}


def modules_in(folders) -> list[str]:
    return [name for name in MODULES if folder_of(name) in folders]


def test_the_package_holds_the_folders_and_nothing_else():
    entries = {path.name for path in ROOT.iterdir() if path.name not in ("__pycache__", "recipes")}
    assert entries == FOLDERS | {"__init__.py", "__main__.py", "api.py", "py.typed"}


@pytest.mark.parametrize("folder", sorted(path.parent for path in ROOT.rglob("__init__.py") if path.parent != ROOT))
def test_a_folder_opens_with_one_line_that_says_what_is_in_it(folder):
    text = (folder / "__init__.py").read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("folder", ORDER)
def test_imports_point_down(folder):
    above, modules = set(ORDER[ORDER.index(folder) + 1 :]), modules_in([folder])
    assert modules
    assert not [(module, name) for module in modules for name in ours(module) if folder_of(name) in above]


def test_no_circle_of_files():
    graph = {module: ours(module) & set(MODULES) - {module, "mamlcli"} for module in MODULES if module != "mamlcli"}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("folder", COMPUTING)
def test_what_computes_knows_no_recipe_no_run_and_no_terminal(folder):
    for module in modules_in([folder]):
        of_common = {name.removeprefix("mamlcli.common.") for name in ours(module) if folder_of(name) == "common"}
        assert not [name for name in ours(module) if folder_of(name) in ("recipe", "runs")], module
        assert of_common <= OF_COMMON_FOR_COMPUTING, module
        assert not packages(module) & PACKAGES_NOT_FOR_COMPUTING, module


@pytest.mark.parametrize("folder", WITHOUT_TORCH)
def test_what_lists_and_checks_imports_no_torch(folder):
    for module in set(modules_in([folder])) - COMPUTING_FILES_OF_COMMON:
        assert not packages(module) & {"torch", "torchvision"}, module
        assert not ours(module) & COMPUTING_FILES_OF_COMMON, module


def test_training_alone_turns_a_recipe_into_an_inner_loop():
    joining = [name for name in MODULES if {"mamlcli.recipe.schema"} <= ours(name)]
    with_transforms = [name for name in joining if "mamlcli.engine.transforms" in ours(name)]
    assert {folder_of(name) for name in with_transforms} == {"training"}


def private_imports(tree: ast.AST) -> list[str]:
    """Return the private names that a file imports from another module of the project."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("mamlcli", "tests"):
            names += [alias.name for alias in node.names if alias.name.startswith("_")]
    return names


def test_no_private_name_is_imported_from_another_module():
    assert not {module: names for module, tree in TREES.items() if (names := private_imports(tree))}
    assert private_imports(ast.parse("from mamlcli.api import train, _train")) == ["_train"]


# An import inside a function has one reason: the start-up time of commands that do not need it. Below are the folders
# and packages that are slow to load, or that load torch, and so may be imported late.
SLOW_PACKAGES = {
    "distributed",
    "torch",
    "torchvision",
    "scipy",
    "numpy",
    "matplotlib",
    "safetensors",
    "PIL",
    "yaml",
    "tensorboard",
    "mlflow",
    "higher",
    "jax",
    "pydantic",
    "torchopt",
    "rich",
    "packaging",
    "markdown_it",
    "filelock",
}
# Python modules that not every system has.
OF_SOME_SYSTEMS = {"resource", "fcntl"}
SLOW_FOLDERS = {"tasks", "engine", "training", "deploy", "bench", "studies", "api"}


def late_imports(module: str) -> set[str]:
    """Return what a module imports inside its functions."""
    names: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names |= imports(node)
    return names


def top_imports(tree: ast.Module) -> set[str]:
    """Return what loading a module loads."""
    body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.Try)]
    return set().union(*map(imports, body))


AT_TOP = {name: top_imports(tree) for name, tree in TREES.items()}
LATE = {name: late_imports(name) for name in MODULES}


def reaches(start: str) -> set[str]:
    """Return all modules of the package that loading one of them at its top loads."""
    seen, rest = set(), [start]
    while rest:
        name = rest.pop()
        if name not in seen:
            seen.add(name)
            rest += AT_TOP.get(name, set())
    return seen


@pytest.mark.parametrize("module", [name for name in MODULES if LATE[name]])
def test_imports_inside_functions_are_for_start_up_time(module):
    for name in LATE[module]:
        if folder_of(name) in SLOW_FOLDERS or name.partition(".")[0] in SLOW_PACKAGES | OF_SOME_SYSTEMS:
            continue
        loaded = {loaded.partition(".")[0] for loaded in reaches(name)}
        assert loaded & SLOW_PACKAGES, f"{module} imports {name} in a function, and it loads nothing slow"


def test_the_package_itself_imports_its_python_interface_alone_and_only_when_asked():
    assert ours("mamlcli") == {"mamlcli.api", "mamlcli.recipe.plugin_schema"}
    at_import = [node for node in TREES["mamlcli"].body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not at_import


def test_click_is_never_imported():
    documented = {"typer.testing", "typer.core", "typer.core.TyperGroup"}
    for module, names in IMPORTS.items():
        assert not {name for name in names if name.partition(".")[0] == "click"}, module
        assert not {name for name in names if name.startswith("typer.")} - documented, module


def test_yaml_is_known_to_the_files_of_recipes_and_to_what_reads_them_alone():
    assert [name for name in MODULES if "yaml" in packages(name)] == [
        "mamlcli.recipe.files",
        "mamlcli.recipe.reading",
        "mamlcli.studies.where.profiles",
    ]


def test_typer_is_known_to_the_command_line_alone():
    assert {folder_of(name) for name in MODULES if "typer" in packages(name)} == {"cli"}


def writes(module: str) -> list[str]:
    """Return the calls in a file that write to the terminal."""
    calls = []
    for node in ast.walk(TREES[module]):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        is_print = called in ("print", "rich.print", "typer.echo", "typer.secho", "Console", "rich.console.Console")
        is_print = is_print or called == "telling"  # makes what writes to stdout
        if is_print or called.startswith(("sys.stdout.write", "sys.stderr.write", "warnings.warn")):
            calls.append(f"{module}:{node.lineno}: {called}")
    return calls


def test_console_is_the_only_module_that_writes():
    calls = {name: writes(name) for name in MODULES}
    assert calls.pop("mamlcli.cli.console")
    assert not [line for lines in calls.values() for line in lines]


def commands(module: str) -> list[ast.FunctionDef]:
    """Return the commands of a file: those it registers, and the function that is named as the file."""
    functions = [node for node in TREES[module].body if isinstance(node, ast.FunctionDef)]
    return [
        function
        for function in functions
        if function.name == MODULES[module].stem or any(".command(" in ast.unparse(d) for d in function.decorator_list)
    ]


def test_command_bodies_are_short():
    for function in (function for module in modules_in(["cli"]) for function in commands(module)):
        statements = [part for part in function.body if not isinstance(part, ast.ImportFrom)]
        assert len(statements) - 1 <= 15, function.name  # less the docstring


def test_commands_are_found():
    assert [function.name for function in commands("mamlcli.cli.train")] == ["train"]
    assert {function.name for function in commands("mamlcli.cli.recipes")} >= {"ls", "show", "cp"}


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["train", "--help"], ["recipes", "ls"], ["data", "ls"], ["runs", "ls"]],
    ids=" ".join,
)
def test_commands_that_compute_nothing_load_no_torch(words, tmp_path):
    (tmp_path / "runs").mkdir()
    code = (
        "import sys\n"
        "from mamlcli.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    sys.stderr.write('torch loaded' if 'torch' in sys.modules else 'no torch')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    command = [sys.executable, "-c", code, *words]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert ended.returncode == 0
    assert ended.stderr.endswith("no torch")


def test_every_module_has_its_test_file():
    tests = ROOT.parent / "tests"
    files = [path.relative_to(ROOT) for path in MODULES.values() if path.name not in ("__init__.py", "__main__.py")]
    missing = [str(file) for file in files if not (tests / file.parent / f"test_{file.name}").is_file()]
    assert not missing


def test_long_files_of_tests_are_there():
    assert not [name for name in LONGEST if not (ROOT.parent / name).is_file()]


def test_files_and_functions_are_of_a_size_to_read():
    for name, path in MODULES.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 320, name
        for node in ast.walk(TREES[name]):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 55, f"{name}: {node.name}"


def test_the_map_in_contributing_is_the_tree():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert with_map(text, ROOT) == text, "Run: make docs"


def test_setup_names_every_folder():
    config = configparser.ConfigParser()
    config.read(ROOT.parent / "setup.cfg")
    named = set(config["options"]["packages"].split())
    assert named - {"mamlcli.recipes"} == {name for name, path in MODULES.items() if path.name == "__init__.py"}


FORMAT_OFF = re.compile("# fmt: " + "(skip|off)")


def test_calls_are_formatted_by_the_formatter():
    skips = [path for path in (ROOT.parent / "tests").rglob("*.py") if FORMAT_OFF.search(path.read_text())]
    skips += [path for path in MODULES.values() if FORMAT_OFF.search(path.read_text())]
    assert not skips


def unnamed_encodings(module: str) -> list[str]:
    """Return the calls of a file that read or write text in whatever encoding the place has."""
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    return [f"{module}:{call.lineno}: {ast.unparse(call)}" for call in calls if leaves_encoding_open(call)]


def leaves_encoding_open(call: ast.Call) -> bool:
    """Return whether a call opens, reads or writes a text file, or starts a process with text, without an encoding.

    `open(path)` has its mode second, `path.open()` first; that of what else has an `open` (`Image.open(path)`) is no
    mode, and that of `tarfile.open` none of a text.
    """
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in named or ast.unparse(call.func) == "tarfile.open" or (name == "read_text" and call.args):
        return False
    if name in ("read_text", "write_text", "TextIOWrapper"):
        return True
    if "text" in named or "universal_newlines" in named:
        return name in ("run", "Popen", "check_output")
    if name not in ("open", "fdopen", "NamedTemporaryFile", "TemporaryFile"):
        return False
    is_method = isinstance(call.func, ast.Attribute) and name == "open"
    modes = [named["mode"]] if "mode" in named else call.args[0 if is_method or "Temporary" in name else 1 :][:1]
    mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else "" if modes else "r"
    is_binary_by_default = "Temporary" in name and not modes
    return isinstance(mode, str) and mode[:1] in ("r", "w", "a", "x") and "b" not in mode and not is_binary_by_default


def test_every_text_file_is_read_and_written_in_a_named_encoding():
    assert [line for module in MODULES for line in unnamed_encodings(module)] == []


@pytest.mark.parametrize(
    ("code", "is_open"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("path.open()", True),
        ("path.open('a')", True),
        ("path.open('a', encoding='utf-8')", False),
        ("path.open('xb')", False),
        ("Image.open(path)", False),
        ("tarfile.open(fileobj=stream, mode='r:*')", False),
        ("subprocess.run(words, text=True)", True),
        ("tempfile.NamedTemporaryFile('w')", True),
        ("tempfile.NamedTemporaryFile()", False),
    ],
)
def test_calls_without_an_encoding_are_found(code, is_open):
    assert leaves_encoding_open(ast.parse(code).body[0].value) is is_open
