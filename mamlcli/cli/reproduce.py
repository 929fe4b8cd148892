"""`mamlcli reproduce`: every claim of the paper, a verdict, a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mamlcli.cli import complete, console
from mamlcli.cli.common import DeviceOption, JsonOption
from mamlcli.cli.studies import RUNS, SweepProgress, again, warn_about_jobs
from mamlcli.errors import Interrupted, MamlError

if TYPE_CHECKING:
    from mamlcli.claims import ClaimResult, Study
    from mamlcli.reproduce import Family, Scale
    from mamlcli.sweep import CellEnd, Sweep


def reproduce(
    scale: Annotated[
        str,
        typer.Option(help="smoke, laptop or paper.", autocompletion=complete.one_of("smoke", "laptop", "paper")),
    ] = "laptop",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds of every cell; by default the scale's.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time; by default the cores, 1 on CUDA.", show_default=False)
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Where it goes, or one to finish; by default runs/reproduce-<scale>."),
    ] = None,
    device: DeviceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run and what it would cost.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every claim of the paper: run what each needs, decide it by a stated rule, write a report.

    smoke (under 2 minutes) shows that everything runs; laptop (2 cores, under 25 minutes, no download) decides what it
    can, on synthetic tasks and glyphs, and on Omniglot if its pack is there; paper has the release's settings, for a
    GPU. The same command again continues where it was cut.

    Examples:

      mamlcli reproduce

      mamlcli reproduce --scale smoke --json

      mamlcli reproduce --scale paper --dry-run
    """
    from mamlcli.reproduce import present_families
    from mamlcli.study_api import num_processes_of, scale_of
    from mamlcli.study_api import reproduce as run_reproduction

    chosen = scale_of(scale)
    families, _ = present_families(chosen)
    num_seeds = seeds or chosen.num_seeds
    warn_about_jobs(jobs)
    num_processes = jobs or num_processes_of(families, num_seeds, device)
    if dry_run or chosen.needs_packs:
        show_cost(chosen, families, num_seeds, num_processes, device)
    if dry_run:
        return
    path = directory or RUNS / f"reproduce-{scale}"
    display = Display(num_processes)
    try:
        done = run_reproduction(
            scale, folder=path, seeds=seeds, jobs=num_processes, device=device, command=again,
            on_family=display.begin, on_end=display.show,
        )  # fmt: skip
    except Interrupted as error:
        raise Interrupted(f"interrupted; what was done is saved. Continue: {again(path)}") from error
    results, failures, content = list(done.claims), done.failures, done.to_json()
    write_report(path, chosen, num_seeds, results, list(done.studies), [*done.left_out, *failures], content)
    show(results, path, content, as_json)
    if failures:
        raise MamlError(str(path), expected="every cell to finish", got=f"{len(failures)} that failed: {failures[0]}",
                        next_step=f"The others are done. Try these again: {again(path)}")  # fmt: skip


def show_cost(scale: Scale, families: list[Family], num_seeds: int, num_workers: int, device: str | None) -> None:
    """Say how many runs a scale has and what they cost, measured on a few meta-iterations of each."""
    from mamlcli.reproduce import cost_s, num_cells
    from mamlcli.tables import duration

    total = cost_s(families, num_seeds, num_workers, device)
    names = ", ".join(family.words for family in families)
    console.note(
        f"scale {scale.name}: {scale.words}. {num_cells(families, num_seeds)} runs ({names}), {num_workers} at a time: "
        f"about {duration(total)} (measured on a few meta-iterations of each value)"
    )


class Display:
    """A heading for each family, then one line for each of its cells."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._progress: SweepProgress | None = None

    def begin(self, family: Family, sweep: Sweep) -> None:
        """Show that a family begins."""
        self._progress = SweepProgress(sweep, self._num_workers)
        console.note(f"{family.words}: {self._progress.plan}")

    def show(self, end: CellEnd) -> None:
        """Show one cell."""
        assert self._progress is not None
        self._progress.show(end)


def write_report(
    path: Path, scale: Scale, num_seeds: int, results: list[ClaimResult], studies: list[Study], notes: list[str],
    content: dict[str, object],
) -> None:  # fmt: skip
    """Write result.json, report.md with its figures, and report.html."""
    from mamlcli.claim_plots import operators_figure, picture, study_figure
    from mamlcli.environment import versions
    from mamlcli.files import atomic_write, json_text
    from mamlcli.recipe_files import recipe_to_yaml
    from mamlcli.report import Picture, report_markdown, seeds_count, to_html
    from mamlcli.reproduce import candidates, runs_of, sweep_of, wall_s
    from mamlcli.tables import duration

    pictures: dict[str, list[Picture]] = {}
    for study in studies:
        if study.result.cells:
            caption = f"{study.words}: after adaptation against depth; adaptation curves"
            pictures[study.key] = [picture(study.key, study_figure(study.result, study.words), caption)]
        if study.operators:
            figure_of_operators = operators_figure(study.operators)
            pictures[study.key].append(
                picture("operators", figure_of_operators, "The learned operators and the best one")
            )
    title = f"When MAML can adapt fast: claims C1 to C7 at scale {scale.name}"
    intro = [
        f"Scale {scale.name}: {scale.words}. {seeds_count(num_seeds)} of every cell; "
        f"{duration(wall_s(studies))} of computing in all processes together.",
        *([f"Left out: {'; '.join(notes)}."] if notes else []),
    ]
    device = next((str(run.manifest.get("device")) for study in studies for run in runs_of(study)), "unknown")
    settings = {
        **versions(),
        "device": device,
        "seeds": str(num_seeds),
        **{f"{study.words}: candidates for inner.lr": ", ".join(map(str, candidates(study))) for study in studies},
        **{f"{study.words}: runs": str(study.result.directory) for study in studies},
    }
    recipes = {
        study.words: recipe_to_yaml(sweep_of(family, num_seeds).recipe)
        for study in studies
        for family in scale.families
        if family.key == study.key
    }
    markdown = report_markdown(
        title=title, intro=intro, settings=settings, recipes=recipes, results=results, studies=studies,
        pictures=pictures,
    )  # fmt: skip
    drawn = [one for of_study in pictures.values() for one in of_study]
    for figure in drawn:
        atomic_write(path / figure.name, figure.png)
        atomic_write((path / figure.name).with_suffix(".svg"), figure.svg)
    atomic_write(path / "report.md", markdown.encode())
    atomic_write(path / "report.html", to_html(markdown, title, drawn).encode())
    atomic_write(path / "result.json", json_text(content).encode())


def show(results: list[ClaimResult], path: Path, content: dict[str, object], as_json: bool) -> None:
    """Show the verdicts."""
    from mamlcli.report import verdict_grid
    from mamlcli.tables import plain_table

    if as_json:
        console.result_json(content)
        return
    grid = verdict_grid(results)
    table = plain_table(caption="holds, fails or undecided: by intervals over seeds and exact checks, see the report")
    for name in grid.header:
        table.add_column(name, no_wrap=name in ("claim", "verdict"))
    for row in grid.rows:
        table.add_row(*row)
    console.result(table)
    console.note(f"\nReport: {path}/report.html (also report.md, result.json)")
