"""A reproduction leaves its files here: the report in both forms, its figures, its table, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.machine import short_versions
from mamlcli.recipe.files import recipe_to_yaml
from mamlcli.studies.claims.beside import (
    OPERATOR_WORDS,
    POOLED_WORDS,
    operator_grid,
    pooled_grid,
    study_operators,
)
from mamlcli.studies.claims.claim_figures import CAPTIONS, EVERY_SEED, claim_figures
from mamlcli.studies.claims.claims_csv import claims_csv
from mamlcli.studies.claims.figures import picture
from mamlcli.studies.claims.forest import NARROW, forest_figure
from mamlcli.studies.claims.markup import Grid, Picture, to_html
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.claims.report import Appendix, report_markdown, report_title
from mamlcli.studies.claims.reproduction import Reproduction, runs_of, seconds_of_parts, sweep_of
from mamlcli.studies.layers.image_operators import HeadOperator
from mamlcli.studies.layers.operator_figure import head_operators_figure

# study in words -> value -> the operator of each seed
Operators = Mapping[str, Mapping[str, Sequence[HeadOperator]]]

OPERATOR_CAPTION = (
    "Singular values of the operator on the gradient of the collapsed head, with appended linear layers and with the "
    "KFO learned without them. It decides nothing."
)


def write_report(path: Path, done: Reproduction) -> None:
    """Write result.json, claims.csv, report.md with its figures, and report.html.

    Args:
        path: the folder of the reproduction.
        done: as far as it is.
    """
    forest = forest_picture(done)
    by_claim = {
        claim: [picture(claim.lower(), figure, f"{CAPTIONS[claim]} {EVERY_SEED}")]
        for claim, figure in claim_figures(done).items()
    }
    operators = operators_of(done)
    for study in (study for study in done.studies if study.words in operators):
        drawing = head_operators_figure(operators[study.words], study.words)
        by_claim.setdefault("C7", []).append(picture(f"c7-operators-{study.key}", drawing, OPERATOR_CAPTION))
    markdown = report_markdown(done, forest, by_claim, appendix_of(path, done, operators))
    drawn = [forest, *(figure for of_claim in by_claim.values() for figure in of_claim)]
    for figure in drawn:
        atomic_write(path / figure.name, figure.png)
        atomic_write((path / figure.name).with_suffix(".svg"), figure.svg)
    atomic_write((path / forest.name).with_name("forest-narrow.png"), forest.narrow)
    atomic_write(path / "report.md", markdown.encode())
    atomic_write(path / "report.html", to_html(markdown, report_title(done), drawn).encode())
    atomic_write(path / "claims.csv", claims_csv(done).encode())
    atomic_write(path / "result.json", json_text(done.to_json()).encode())


def forest_picture(done: Reproduction) -> Picture:
    """Return the forest plot, in both layouts."""
    title = f"Every prediction at scale {done.plan.scale}, and the verdict on each claim"
    wide, narrow = forest_figure(done.claims, title), forest_figure(done.claims, title, NARROW)
    return picture("forest", wide, f"{title}. Differences in units of their margin.", narrow)


def operators_of(done: Reproduction) -> dict[str, dict[str, list[HeadOperator]]]:
    """Return the head operators of each study that has them: study in words -> value -> of each seed."""
    found = {study.words: study_operators(done.plan, study) for study in done.studies}
    return {words: operators for words, operators in found.items() if operators}


def appendix_of(path: Path, done: Reproduction, operators: Operators) -> Appendix:
    """Return what is printed of the runs and recipes of a reproduction, and beside its claims."""
    plan = done.plan
    present = {study.key for study in done.studies}
    families = [family for family in plan.families if family.key in present]
    recipes = {
        family.words: recipe_to_yaml(sweep_of(family, first_seed=plan.first_seed, num_seeds=1).recipe)
        for family in families
    }
    return Appendix(
        command=f"mamlcli reproduce --dir {path} --report",
        settings=settings_of(done.studies),
        recipes=recipes,
        seconds=seconds_of_parts(path, done.studies),
        tables=tables_of(done, operators),
    )


def tables_of(done: Reproduction, operators: Operators) -> dict[str, list[tuple[str, Grid]]]:
    """Return the tables beside the claims: means over studies, and operators of image networks under C7."""
    pooled = {claim.id: pooled_grid(claim, done.studies) for claim in done.claims}
    tables = {claim: [(POOLED_WORDS, grid)] for claim, grid in pooled.items() if grid is not None}
    if operators:
        tables.setdefault("C7", []).append((OPERATOR_WORDS, operator_grid(operators)))
    return tables


def settings_of(studies: Sequence[Study]) -> dict[str, str]:
    """Return the versions and devices that the cells were made with, as their manifests have them; all, if several."""
    found: dict[str, dict[str, None]] = {}
    for study in studies:
        for run in runs_of(study):
            manifest = run.manifest
            for name, value in {**short_versions(manifest.versions), "device": manifest.device}.items():
                found.setdefault(name, {})[str(value)] = None
    return {name: "; ".join(values) for name, values in found.items()}
