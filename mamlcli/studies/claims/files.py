"""The files that a reproduction leaves: report, figures, JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.machine import versions

if TYPE_CHECKING:
    from mamlcli.studies.claims.predictions import ClaimResult, Study
    from mamlcli.studies.claims.scales import Scale


def write_report(
    path: Path,
    scale: Scale,
    num_seeds: int,
    results: list[ClaimResult],
    studies: list[Study],
    notes: list[str],
    content: dict[str, object],
) -> None:
    """Write result.json, report.md with its figures, and report.html."""
    from mamlcli.common.tables import duration
    from mamlcli.recipe.files import recipe_to_yaml
    from mamlcli.studies.claims.figures import operators_figure, picture, study_figure
    from mamlcli.studies.claims.report import Picture, report_markdown, seeds_count, to_html
    from mamlcli.studies.claims.reproduction import candidates, runs_of, sweep_of, wall_s

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
        title=title,
        intro=intro,
        settings=settings,
        recipes=recipes,
        results=results,
        studies=studies,
        pictures=pictures,
    )
    drawn = [one for of_study in pictures.values() for one in of_study]
    for figure in drawn:
        atomic_write(path / figure.name, figure.png)
        atomic_write((path / figure.name).with_suffix(".svg"), figure.svg)
    atomic_write(path / "report.md", markdown.encode())
    atomic_write(path / "report.html", to_html(markdown, title, drawn).encode())
    atomic_write(path / "result.json", json_text(content).encode())
