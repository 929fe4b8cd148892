"""The house: one room per concern, imports only downwards."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mamlcli

ROOT = Path(mamlcli.__file__).parent

# A module imports from lower levels only. `tasks` and `cli` are one room each, free within.
LEVELS = {
    "errors": 0, "files": 0, "names": 0, "statistics": 0, "decisions": 0,
    "recipe": 1, "tasks": 1,
    "recipe_keys": 1.2, "recipe_rules": 1.2, "recipe_problems": 1.5, "recipe_files": 2, "recipe_changes": 2.5,
    "recipe_reference": 3, "models": 2, "transforms": 2,
    "compilation": 1, "task_layers": 3, "task_network": 4,
    "adaptation": 3, "linear_stack": 3,
    "estimators": 4, "explicit": 5,
    "execution": 5.5, "workers": 1, "distributed": 5.7,
    "engine": 6, "evaluation": 6, "analysis": 6, "capacity": 6,
<<<<<<< HEAD
    "operators": 7, "optimum": 8, "layer_results": 9, "bottom_update": 7, "claims": 7,
=======
    "operators": 7, "bottom_update": 7, "claims": 7.5, "study_scores": 1, "cell_result": 2, "study_result": 3,
>>>>>>> studies
    "build": 8, "environment": 8, "rundir": 8,
    "tables": 9, "pool": 9, "study_results": 9, "rate_choice": 9,
    "plots": 10, "layer_tables": 10, "study_tables": 10,
    "trained": 9, "session": 11, "start": 12, "rescoring": 12, "layer_plots": 11, "study_plots": 11,
    # Of `mamlcli bench`.
    "bench_peers": 7, "tuned": 7, "bench_cases": 9, "bench_tables": 10, "bench_timing": 11, "bench_plots": 11,
    "tuning": 14,
    # Of `mamlcli runs`, and of event files.
    "event_log": 1, "run_catalogue": 3, "run_comparison": 4, "run_tables": 10, "exports": 11, "model_card": 12,
    "module_source": 9, "weights": 13,
    # Of completion, and of `mamlcli doctor`.
    "run_folders": 0, "completion": 4, "diagnosis": 12, "diagnosis_tables": 13,
    # Of a user's own images.
    "classifier": 6, "tensors": 9, "prediction_report": 9, "prediction_tables": 10, "prediction": 12,
    "prediction_files": 13,
    "replicas": 12, "follower": 12, "layer_report": 12, "cells": 12.5, "cell_groups": 12,
    "classifier": 6, "prediction_tables": 10, "prediction": 12, "prediction_files": 13,
    "placement": 7.5, "manifest": 9, "checkpoints": 9, "scoring": 9, "training_functions": 10, "dry_run": 11,
    "follower": 12, "layer_report": 12, "cells": 12.5,
    "sweep": 13,
    "studies": 14, "benchmark": 14,
    "reproduce": 15, "report": 15,
    "claim_plots": 16, "study_api": 16,
    # From Python: `mamlcli` itself hands out what is in `api`. All may import `mamlcli`, for its version.
    "api": 16.5, "mamlcli": 17,
    "cli": 17,
    "__main__": 18,
}  # fmt: skip
ROOMS_FREE_WITHIN = ("tasks", "cli")

# The part that computes: it could be used without recipes, files or a terminal.
CORE = (
    "tasks", "models", "transforms", "linear_stack", "adaptation", "estimators", "execution", "explicit", "task_layers",
    "task_network", "compilation", "engine", "evaluation", "distributed",
    "analysis", "bottom_update", "capacity", "classifier", "operators", "claims", "decisions", "statistics",
)  # fmt: skip
NOT_IN_CORE = {"recipe", "recipe_files", "build", "environment", "rundir", "session", "tables", "plots", "cli"}
PACKAGES_NOT_IN_CORE = {"rich", "typer", "matplotlib", "yaml", "pydantic"}


def room_of(module: str) -> str:
    """Return the room of a dotted module name: `mamlcli.tasks.packs` is in `tasks`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever: in functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            # `from mamlcli import x` may import the module mamlcli.x.
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in below if name in MODULES} or {str(node.module)}
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.partition(".")[0] == "mamlcli"}


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def modules_in(rooms) -> dict[str, Path]:
    return {name: path for name, path in MODULES.items() if room_of(name) in rooms}


def test_every_module_has_a_level():
    assert {room_of(name) for name in MODULES} <= set(LEVELS)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_from_lower_levels_only(module):
    room = room_of(module)
    for imported in ours(MODULES[module]):
        other = room_of(imported)
        if other == "mamlcli" or (other == room and room in ROOMS_FREE_WITHIN):
            continue
        # A module without a level is the concern of the test above.
        assert LEVELS.get(other, -1) < LEVELS.get(room, 99), f"{module} imports {imported}"


@pytest.mark.parametrize("module", modules_in(CORE))
def test_core_knows_no_recipe_no_run_and_no_terminal(module):
    assert not {room_of(name) for name in ours(MODULES[module])} & NOT_IN_CORE
    assert not packages(MODULES[module]) & PACKAGES_NOT_IN_CORE


def test_transforms_know_nothing_of_the_core_but_how_randomness_is_counted():
    assert ours(MODULES["mamlcli.transforms"]) <= {"mamlcli.tasks.base", "mamlcli.errors"}


def rooms_that_join(*names: str) -> set[str]:
    """Return the rooms whose modules know recipes and one of these modules too."""
    recipes, others = {"mamlcli.recipe", "mamlcli.recipe_files"}, {f"mamlcli.{name}" for name in names}
    return {room_of(name) for name, path in MODULES.items() if ours(path) & recipes and ours(path) & others}


def test_build_alone_turns_a_recipe_into_an_inner_loop():
    assert rooms_that_join("transforms", "adaptation") == {"build"}


def test_engine_and_recipe_meet_only_where_a_run_is_built_or_trained():
    # Build makes the settings of the outer loop, a session consumes its records, as do its other workers, and a cell
    # starts from its state.
    assert rooms_that_join("engine") <= {"build", "session", "follower", "cells", "training_functions"}


def test_the_package_itself_imports_its_python_interface_alone_and_only_when_asked():
    path = MODULES["mamlcli"]
    assert ours(path) == {"mamlcli.api"}
    at_import = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in at_import} == {"__future__", "typing"}


def test_click_is_never_imported():
    for path in MODULES.values():
        assert not {name for name in imports(path) if name.partition(".")[0] == "click"}
        assert not {name for name in imports(path) if name.startswith("typer.") and name != "typer.testing"}


def test_yaml_is_known_to_recipe_files_alone():
    assert [name for name, path in MODULES.items() if "yaml" in packages(path)] == ["mamlcli.recipe_files"]


def test_typer_is_known_to_the_command_line_alone():
    assert {room_of(name) for name, path in MODULES.items() if "typer" in packages(path)} == {"cli"}


def writes(path: Path) -> list[str]:
    """Return the calls in a file that write to the terminal."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        is_print = called in ("print", "rich.print", "typer.echo", "typer.secho", "Console", "rich.console.Console")
        if is_print or called.startswith(("sys.stdout.write", "sys.stderr.write", "warnings.warn")):
            found.append(f"{path.name}:{node.lineno}: {called}")
    return found


def test_console_is_the_only_module_that_writes():
    found = {name: writes(path) for name, path in MODULES.items()}
    assert found.pop("mamlcli.cli.console")
    assert not [line for lines in found.values() for line in lines]


def commands(path: Path) -> list[ast.FunctionDef]:
    """Return the commands of a file: those it registers, and the function that is named as the file."""
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [
        function
        for function in functions
        if function.name == path.stem or any(".command(" in ast.unparse(d) for d in function.decorator_list)
    ]


@pytest.mark.parametrize("module", modules_in(["cli"]))
def test_command_bodies_are_short(module):
    for function in commands(MODULES[module]):
        statements = [part for part in function.body if not isinstance(part, ast.ImportFrom)]
        assert len(statements) - 1 <= 15, function.name  # less the docstring


def test_commands_are_found():
    assert [function.name for function in commands(MODULES["mamlcli.cli.train"])] == ["train"]
    assert {function.name for function in commands(MODULES["mamlcli.cli.recipes"])} >= {"ls", "show", "cp"}


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["train", "--help"], ["recipes", "ls"], ["data", "ls"]], ids=" ".join
)
def test_commands_that_compute_nothing_load_no_torch(words, tmp_path):
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
    assert ended.stdout
    assert ended.stderr == "no torch"
