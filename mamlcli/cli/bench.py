"""`mamlcli bench` measures speed and memory of the meta-gradient, beside other implementations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import DeviceOption, JsonOption, place_to_write, recipe_and_overrides
from mamlcli.common.commands import command
from mamlcli.common.errors import MamlError

if TYPE_CHECKING:
    from mamlcli.bench.benchmark import BenchSettings


TuneArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE ...]",
        help="With --tune: what to tune.",
        show_default=False,
        autocompletion=complete.recipe_and_keys,
    ),
]


CasesOption = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="What to measure: omniglot, cifar-fs, cifar-fs-release, logistic, anil, kfo, shallow (a whole "
        "meta-iteration), evaluation (600 tasks): the default; steps (1, 5 and 25 inner steps) and steps-100.",
        show_default=False,
        autocompletion=complete.list_of(
            "omniglot", "cifar-fs", "cifar-fs-release", "logistic", "anil", "kfo", "shallow", "evaluation", "steps"
        ),
    ),
]


RepeatsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Rounds of each case; by default 3 to 15, as time allows.", show_default=False),
]


CompileOption = Annotated[
    bool, typer.Option("--compile", help="Also measure ours compiled, with what compiling takes apart.")
]


TuneOption = Annotated[
    bool, typer.Option("--tune", help="Measure how RECIPE runs fastest on this machine, and keep that for `auto`.")
]


FigureOption = Annotated[
    Path | None, typer.Option(metavar="PNG", help="Draw it.", show_default=False, callback=place_to_write)
]


OutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder for bench.json and bench.png.", show_default=False, callback=place_to_write
    ),
]


def bench(
    arguments: TuneArguments = None,
    cases: CasesOption = None,
    repeats: RepeatsOption = None,
    device: DeviceOption = None,
    compiled: CompileOption = False,
    tune: TuneOption = False,
    figure: FigureOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure time and memory of one meta-gradient, beside a hand-written loop, higher, TorchOpt and JAX.

    If they say nothing else, cases are 5-shot with 5 queries per class, 16 tasks, exact second order, on random
    patterns: speed depends on shapes alone. Before anything is timed, every implementation must give the same
    meta-gradient, to 1e-8 in float64. The implementations take turns within each round; peers get their best thread
    count; memory is the peak of a fresh process. Peers that are not installed are left out:
    pip install 'mamlcli\\[bench,bench-jax]' brings them.

    With --tune, ways to run a recipe are measured, be it of a plug-in's network and tasks; peers are not.

    Examples:

      mamlcli bench

      mamlcli bench --cases omniglot,steps --out speed

      mamlcli bench --tune omniglot-5way-1shot
    """
    from mamlcli.bench.benchmark import run_benchmark
    from mamlcli.bench.figure import save_report
    from mamlcli.bench.tables import bench_parts

    if tune:
        show_tuning(arguments, device, repeats)
        return
    settings = bench_settings(arguments, cases, device, repeats, compiled)
    report = run_benchmark(settings, on_note=_note)
    for path in save_report(report, figure=figure, folder=out):
        _note(f"Written: {path}")
    console.show(report, bench_parts)


def bench_settings(
    arguments: list[str] | None, cases: str | None, device: str | None, repeats: int | None, compiled: bool
) -> BenchSettings:
    """Return what the command is to measure.

    Raises:
        MamlError: a recipe without --tune, or a case that is none.
    """
    from mamlcli.bench.benchmark import BenchSettings
    from mamlcli.bench.cases import DEFAULT_CASES, chosen_cases

    if arguments:
        raise MamlError(
            "command line",
            expected="no recipe without --tune",
            got=repr(arguments[0]),
            next_step=f"Give cases with --cases, or run: {command('bench', '--tune', *arguments)}",
        )
    names = list(DEFAULT_CASES) if cases is None else [name.strip() for name in cases.split(",") if name.strip()]
    return BenchSettings(tuple(chosen_cases(names)), device or "auto", repeats, compiled)


def show_tuning(arguments: list[str] | None, device: str | None, repeats: int | None) -> None:
    """Tune a recipe and show what was measured."""
    from mamlcli.bench.tables import tuning_parts
    from mamlcli.bench.tuning import tune
    from mamlcli.training.tuned import load_tuned

    name, recipe = recipe_and_overrides(arguments, device)
    load_tuned("", on_problem=console.warn)  # a damaged file is replaced below; say so
    console.show(tune(name, recipe, repeats=repeats, on_note=_note), tuning_parts)


def _note(line: str) -> None:
    console.note(line)
