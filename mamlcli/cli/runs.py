"""`mamlcli runs` lists, shows, compares and exports runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import JsonOption, place_to_write
from mamlcli.common.commands import command
from mamlcli.common.disk import write_error
from mamlcli.common.errors import RunError
from mamlcli.common.files import atomic_write
from mamlcli.common.names import RUNS

if TYPE_CHECKING:
    from mamlcli.runs.entry import RunEntry


app = typer.Typer(help="List, show, compare and export runs.", no_args_is_help=True)


RunArgument = Annotated[
    str,
    typer.Argument(
        help="A run directory, its name below runs/, or a model of mamlcli models ls.", autocompletion=complete.runs
    ),
]


RunsArgument = Annotated[
    list[str],
    typer.Argument(
        help="Run directories, their names below runs/, or models; a study stands for its cells.",
        autocompletion=complete.runs,
    ),
]


@app.command("ls")
def ls(
    folder: Annotated[Path, typer.Argument(help="Where to look, folders below included.")] = RUNS,
    as_json: JsonOption = False,
) -> None:
    """List runs: recipe, status, result, age and time. Those that cannot be read are listed with the reason.

    Examples:

      mamlcli runs ls

      mamlcli runs ls studies/depth --json
    """
    from mamlcli.runs.catalogue import find_runs
    from mamlcli.runs.tables import run_row

    runs = find_runs(folder)
    console.show(runs, lambda runs: list_parts(runs, folder), to_json=lambda runs: [run_row(run) for run in runs])


def list_parts(runs: list[RunEntry], folder: Path) -> Iterator[console.Part]:
    """Yield the table of the runs in a folder, then what is wrong with some of them."""
    from mamlcli.runs.tables import problems_text, runs_table

    if not runs:
        yield console.Note(f"no runs in {folder}. Run: mamlcli train")
        return
    yield runs_table(runs)
    problems = problems_text(runs)
    if problems is not None:
        yield problems


@app.command("show")
def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show everything about one run: recipe, what it changes, curves, result, environment.

    Examples:

      mamlcli runs show glyphs-5way-1shot-1

      mamlcli runs show runs/glyphs-5way-1shot-1 --json
    """
    from mamlcli.runs.tables import run_parts, run_report

    console.show(one_entry_of(run, "RUN"), run_parts, to_json=run_report)


@app.command("compare")
def compare(
    runs: RunsArgument,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="The run that the others are compared with; by default the first.",
            show_default=False,
            autocompletion=complete.runs,
        ),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Also compare runs scored on other tasks, as independent samples.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare finished runs, task by task, on the tasks that all were scored on; name the keys that differ.

    Examples:

      mamlcli runs compare linear-regression-1 linear-regression-2

      mamlcli runs compare studies/depth --baseline studies/depth/cells/depth-4-seed-0 --json
    """
    from mamlcli.runs.comparison import compare_runs
    from mamlcli.runs.comparison_tables import comparison_parts

    entries, index = with_baseline(entries_of(runs), baseline)
    console.show(compare_runs(entries, baseline=index, allow_unpaired=unpaired), comparison_parts)


def entries_of(words: list[str]) -> list[RunEntry]:
    """Return the runs that these arguments name; a study stands for its finished cells."""
    from mamlcli.runs.catalogue import resolve_run, runs_at

    return [run for word in words for run in runs_at(resolve_run(word, RUNS))]


def with_baseline(runs: list[RunEntry], baseline: str | None) -> tuple[list[RunEntry], int]:
    """Return the runs and the index of the baseline among them; a baseline that is none of them is put first."""
    if baseline is None:
        return runs, 0
    entry = one_entry_of(baseline, "--baseline")
    paths = [run.path.resolve() for run in runs]
    path = entry.path.resolve()
    return (runs, paths.index(path)) if path in paths else ([entry, *runs], 0)


def one_entry_of(word: str, where: str) -> RunEntry:
    """Return the run that an argument names; it must be a single one."""
    from mamlcli.runs.catalogue import resolve_run

    entries = entries_of([word])
    if len(entries) != 1:
        raise RunError(
            where,
            expected="one run",
            got=f"a study of {len(entries)}",
            next_step=f"Name one of its cells. Run: {command('runs', 'ls', resolve_run(word, RUNS))}",
        )
    return entries[0]


@app.command("export")
def export(
    runs: RunsArgument,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="csv|json|markdown|latex",
            help="By default by the suffix of --out, else markdown.",
            autocompletion=complete.one_of("csv", "json", "markdown", "latex"),
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; by default the terminal.", show_default=False, callback=place_to_write),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write one run's weights, as safetensors with a model card.",
            show_default=False,
            callback=place_to_write,
        ),
    ] = None,
    standalone: Annotated[bool, typer.Option("--standalone", help="latex: a whole document that compiles.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Export runs: one run's adaptation curve, a table of several, or one run's weights.

    Examples:

      mamlcli runs export logistic-1 --out curve.csv

      mamlcli runs export logistic-1 logistic-2 --format latex --out table.tex

      mamlcli runs export logistic-1 --weights exported
    """
    entries = entries_of(runs)
    if weights is not None:
        _export_weights(entries, weights, force=force, is_table_asked=bool(form or out or standalone))
        return
    form = _format(form, out, standalone)
    from mamlcli.runs.exports import export_runs

    _write(export_runs(entries, form, is_standalone=standalone), out, force=force)


def _format(form: str | None, out: Path | None, is_standalone: bool) -> str:
    """Return the format that is meant, or raise RunError."""
    from mamlcli.runs.exports import SUFFIXES

    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    name = form or (by_suffix.get(out.suffix, "markdown") if out else "latex" if is_standalone else "markdown")
    if name not in SUFFIXES:
        raise RunError("--format", expected=f"one of {', '.join(SUFFIXES)}", got=repr(form))
    if is_standalone and name != "latex":
        raise RunError("--standalone", expected="--format latex", got=name)
    return name


def _write(text: str, out: Path | None, *, force: bool) -> None:
    if out is None:
        console.result_text(text)
        return
    if out.exists() and not (force and out.is_file()):
        got = "a folder" if out.is_dir() else "a file that exists"
        raise RunError(str(out), expected="a new file", got=got, next_step="Name another --out, or add --force")
    try:
        atomic_write(out, text.encode())
    except OSError as error:
        raise write_error(error, str(out), expected="a place that can be written") from error
    console.note(f"Written: {out}")


def _export_weights(entries: list[RunEntry], folder: Path, *, force: bool, is_table_asked: bool) -> None:
    if len(entries) != 1 or is_table_asked:
        got = "--format, --out or --standalone too" if is_table_asked else f"{len(entries)} runs"
        raise RunError(
            "--weights", expected="one run, by itself", got=got, next_step="Export tables by another command"
        )
    from mamlcli.deploy.weights import export_weights

    for path in export_weights(entries[0], folder, is_forced=force):
        console.note(f"Written: {path}")
