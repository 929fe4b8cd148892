"""`mamlcli reproduce` registers a plan, decides every claim of the paper by it, and writes a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.options import DeviceOption, JobsOption, JsonOption, OnOption, PerGpuOption
from mamlcli.cli.reproduction_display import Display, cost_words, result_parts
from mamlcli.cli.study_display import again, warn_about_jobs
from mamlcli.common.errors import Interrupted, MamlError

if TYPE_CHECKING:
    from mamlcli.common.processes.pool import Executor
    from mamlcli.studies.claims.costs import Cost
    from mamlcli.studies.claims.registration import Request
    from mamlcli.studies.claims.reproduction import Reproduction
    from mamlcli.studies.where.places import Wish


ScaleOption = Annotated[
    str,
    typer.Option(
        help="smoke, laptop, evening or paper.",
        autocompletion=complete.one_of("smoke", "laptop", "evening", "paper"),
    ),
]


SeedsOption = Annotated[
    int | None,
    typer.Option(min=2, help="Plan one look at this many seeds; by default the scale's looks.", show_default=False),
]


UntilDecidedOption = Annotated[
    bool,
    typer.Option(
        "--until-decided",
        help="Add seeds to what is open, at looks that are planned before the first run: 5, 10 and 20 seeds.",
    ),
]


MaxSeedsOption = Annotated[
    int | None,
    typer.Option(min=2, help="With --until-decided: no look beyond this many seeds.", show_default=False),
]


HoursOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Start no run later than this many hours from now; the same command continues later.",
        show_default=False,
    ),
]


FirstSeedOption = Annotated[
    int | None,
    typer.Option(help="First of the tested seeds, 100 or more; by default 100.", show_default=False),
]


FamilyOption = Annotated[
    list[str] | None,
    typer.Option("--family", help="Add an optional study of the scale; may be repeated.", show_default=False),
]


ChooseRatesOption = Annotated[
    bool,
    typer.Option("--choose-rates", help="Choose inner learning rates by pilots, even where the scale has them."),
]


DirOption = Annotated[
    Path | None, typer.Option("--dir", help="Where it goes, or one to finish; by default runs/reproduce-<scale>.")
]


ReportOption = Annotated[
    bool, typer.Option("--report", help="Decide and report again from what --dir holds; nothing is run.")
]


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be run and what it would cost.")]


def reproduce(
    scale: ScaleOption = "laptop",
    seeds: SeedsOption = None,
    until_decided: UntilDecidedOption = False,
    max_seeds: MaxSeedsOption = None,
    hours: HoursOption = None,
    first_seed: FirstSeedOption = None,
    families: FamilyOption = None,
    choose_rates: ChooseRatesOption = False,
    jobs: JobsOption = None,
    on: OnOption = None,
    per_gpu: PerGpuOption = None,
    directory: DirOption = None,
    device: DeviceOption = None,
    report: ReportOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check every claim of the paper: register a plan, run what it needs, decide by stated rules, write a report.

    smoke (a minute or two) shows that everything runs; laptop (2 cores, about 20 minutes, no download) decides what it
    can on synthetic tasks and glyphs; evening (about 3 hours) adds Omniglot, if its pack is here; paper has the
    release's settings, for a GPU. plan.json is written first and never changed. The same command again goes on.

    Examples:

      mamlcli reproduce --until-decided --hours 2 --dir runs/decided

      mamlcli reproduce --scale evening --dry-run

      mamlcli reproduce --dir runs/decided --report
    """
    from mamlcli.studies.claims.registration import Request
    from mamlcli.studies.start import reproduction_path
    from mamlcli.studies.where.places import Wish

    request = Request(scale, seeds, until_decided, max_seeds, first_seed, tuple(families or ()), choose_rates)
    path = reproduction_path(directory, scale)
    if report:
        check_only_report(request, hours, is_dry_run=dry_run)
        show_result(read_again(path, jobs, device), path)
        return
    wish = Wish(on, jobs, per_gpu)
    warn_about_jobs(wish)
    if dry_run:
        console.show(cost_at(request, path, wish, device), lambda cost: ())
        return
    with resumable(path):
        done = run_all(request, path, hours, wish, device)
    show_result(done, path)


def check_only_report(request: Request, hours: float | None, *, is_dry_run: bool) -> None:
    """Refuse --report beside options that say what is to be run."""
    from mamlcli.studies.claims.registration import Request

    if request != Request(request.scale) or hours is not None or is_dry_run:
        raise MamlError(
            "--report",
            expected="no other option than --dir, --scale, --jobs, --device and --json",
            got="options that say what is to be run",
            why="Nothing is run: the plan is the one in the folder",
        )


def read_again(path: Path, jobs: int | None, device: str | None) -> Reproduction:
    """Decide every claim again from the runs of a folder."""
    from mamlcli.studies.start import read_reproduction

    return read_reproduction(path, jobs=jobs, device=device)


def run_all(request: Request, path: Path, hours: float | None, wish: Wish, device: str | None) -> Reproduction:
    """Run what is asked for, with a line for each run that ends and tables after each look."""
    from mamlcli.studies.start import reproduce as run_reproduction

    display = Display()

    def open_place(executor: Executor) -> None:
        show_cost(request, path, executor, device)
        display.num_processes = executor.num_processes

    return run_reproduction(
        **vars(request),
        folder=path,
        hours=hours,
        **vars(wish),
        device=device,
        command=again,
        on_wait=console.note,
        on_open=open_place,
        on_family=display.begin,
        on_end=display.show,
        on_look=display.look,
    )


def show_result(done: Reproduction, path: Path) -> None:
    """Write the report and show the verdicts; then raise MamlError where cells failed."""
    from mamlcli.studies.claims.files import write_report

    write_report(path, done)
    console.show(done, lambda done: result_parts(done, path))
    raise_failures(done.failures, path)


def cost_at(request: Request, path: Path, wish: Wish, device: str | None) -> Cost:
    """Say how many runs the first look has and what they cost where they would be made; return the cost."""
    from mamlcli.studies.claims.registration import plan_or_draft
    from mamlcli.studies.start import executor_of

    with executor_of(wish, path, plan_or_draft(path, request).families, device, console.note) as executor:
        return show_cost(request, path, executor, device)


def show_cost(request: Request, path: Path, executor: Executor, device: str | None) -> Cost:
    """Say how many runs the first look has and what they cost; return the cost."""
    from mamlcli.studies.claims.costs import cost_of
    from mamlcli.studies.claims.registration import looks_words, plan_or_draft

    plan = plan_or_draft(path, request)
    cost = cost_of(plan, path, executor=executor, device=device)
    words = f"scale {plan.scale}: {plan.words}. Plan: {looks_words(plan.looks)}"
    console.note(cost_words(cost, words, executor.num_processes))
    return cost


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Say in an interruption how the reproduction is continued."""
    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"interrupted; what was done is saved. Continue: {again(path)}") from error


def raise_failures(failures: Sequence[str], path: Path) -> None:
    """Raise MamlError where cells failed."""
    if failures:
        raise MamlError(
            str(path),
            expected="every cell to finish",
            got=f"{len(failures)} that failed: {failures[0]}",
            next_step=f"The others are done. Try these again: {again(path)}",
        )
