"""A reproduction leaves its files here: the report in both forms, its figures, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.machine import versions
from mamlcli.common.tables import duration
from mamlcli.recipe.files import recipe_to_yaml
from mamlcli.studies.claims.figures import operators_figure, picture, study_figure
from mamlcli.studies.claims.predictions import ClaimResult, Study
from mamlcli.studies.claims.report import Picture, report_markdown, seeds_count, to_html
from mamlcli.studies.claims.reproduction import candidates, runs_of, sweep_of, wall_s
from mamlcli.studies.claims.scales import Scale


def write_report(
    path: Path,
    scale: Scale,
    num_seeds: int,
    results: Sequence[ClaimResult],
    studies: Sequence[Study],
    notes: Sequence[str],
    content: Mapping[str, object],
) -> None:
    """Write result.json, report.md with its figures, and report.html.

    Args:
        path: the folder of the reproduction.
        scale: how much was run.
        num_seeds: of every cell.
        results: the decided claims.
        studies: what they rest on.
        notes: what was left out, and which cells failed, in words.
        content: of result.json.
    """
    title = f"When MAML can adapt fast: claims C1 to C7 at scale {scale.name}"
    intro = [
        f"Scale {scale.name}: {scale.words}. {seeds_count(num_seeds)} of every cell; "
        f"{duration(wall_s(studies))} of computing in all processes together.",
        *([f"Left out: {'; '.join(notes)}."] if notes else []),
    ]
    pictures = {study.key: _pictures(study) for study in studies}
    markdown = report_markdown(
        title=title,
        intro=intro,
        settings=_settings(studies, num_seeds),
        recipes=_recipes(scale, studies, num_seeds),
        results=results,
        studies=studies,
        pictures=pictures,
    )
    drawn = [figure for of_study in pictures.values() for figure in of_study]
    for figure in drawn:
        atomic_write(path / figure.name, figure.png)
        atomic_write((path / figure.name).with_suffix(".svg"), figure.svg)
    atomic_write(path / "report.md", markdown.encode())
    atomic_write(path / "report.html", to_html(markdown, title, drawn).encode())
    atomic_write(path / "result.json", json_text(content).encode())


def _pictures(study: Study) -> list[Picture]:
    """Return the figures of a study; none where no cell has finished."""
    pictures = []
    if study.result.cells:
        caption = f"{study.words}: after adaptation against depth; adaptation curves"
        pictures.append(picture(study.key, study_figure(study.result, study.words), caption))
    if study.operators:
        figure = operators_figure(study.operators)
        pictures.append(picture("operators", figure, "The learned operators and the best one"))
    return pictures


def _settings(studies: Sequence[Study], num_seeds: int) -> dict[str, str]:
    """Return what the numbers depend on beside the recipes, in words."""
    device = next((str(run.manifest.get("device")) for study in studies for run in runs_of(study)), "unknown")
    return {
        **versions(),
        "device": device,
        "seeds": str(num_seeds),
        **{f"{study.words}: candidates for inner.lr": ", ".join(map(str, candidates(study))) for study in studies},
        **{f"{study.words}: runs": str(study.result.directory) for study in studies},
    }


def _recipes(scale: Scale, studies: Sequence[Study], num_seeds: int) -> dict[str, str]:
    """Return the base recipe of each study as YAML, by the study's words."""
    families = {family.key: family for family in scale.families}
    present = [study for study in studies if study.key in families]
    return {study.words: recipe_to_yaml(sweep_of(families[study.key], num_seeds).recipe) for study in present}
