"""A reproduction leaves its files here: the report in both forms, its figures, its table, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mamlcli.common.commands import command
from mamlcli.common.files import atomic_write, json_text
from mamlcli.common.machine import short_versions
from mamlcli.common.published import published_path
from mamlcli.recipe.files import recipe_to_yaml
from mamlcli.studies.claims.beside import (
    OPERATOR_WORDS,
    POOLED_WORDS,
    StudyOperators,
    operator_grid,
    pooled_grid,
    study_operators,
)
from mamlcli.studies.claims.claim_figures import CAPTIONS, EVERY_SEED, claim_figures
from mamlcli.studies.claims.claims_csv import claims_csv
from mamlcli.studies.claims.figures import picture
from mamlcli.studies.claims.forest import NARROW, forest_figure
from mamlcli.studies.claims.markup import Grid, Picture, to_html
from mamlcli.studies.claims.panels import family_of, look_of
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.claims.report import Appendix, report_markdown, report_title
from mamlcli.studies.claims.reproduction import Reproduction, runs_of, seconds_of_parts, sweep_of
from mamlcli.studies.layers.operator_figure import head_operators_figure

OPERATOR_CAPTION = (
    "Singular values of the matrix by which a small inner step multiplies the gradient of the head (appended layers "
    "multiplied out), with appended linear layers and with the KFO learned without them. It decides nothing."
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
    shown = {words: found.by_value for words, found in operators.items() if found.by_value}
    for study in (study for study in done.studies if study.words in shown):
        looks = {value.key: look_of(value) for value in family_of(done.plan, study).values}
        drawing = head_operators_figure(shown[study.words], study.words, looks)
        by_claim.setdefault("C7", []).append(picture(f"c7-operators-{study.key}", drawing, OPERATOR_CAPTION))
    markdown = report_markdown(done, forest, by_claim, appendix_of(path, done, operators))
    drawn = [forest, *(figure for of_claim in by_claim.values() for figure in of_claim)]
    for figure in drawn:
        atomic_write(path / figure.name, figure.png)
        atomic_write((path / figure.name).with_suffix(".svg"), figure.svg)
    atomic_write((path / forest.name).with_name("forest-narrow.png"), forest.narrow)
    deciding = forest_picture(done, of_deciding=True)
    atomic_write(path / deciding.name, deciding.png)
    atomic_write(path / "report.md", markdown.encode())
    atomic_write(path / "report.html", to_html(markdown, report_title(done), drawn).encode())
    atomic_write(path / "claims.csv", claims_csv(done).encode())
    atomic_write(path / "result.json", json_text(done.to_json()).encode())


def forest_picture(done: Reproduction, *, of_deciding: bool = False) -> Picture:
    """Return the forest plot, in both layouts; or, in a picture of its own, that of the rows that decide."""
    what = "prediction that decides a claim" if of_deciding else "prediction"
    title = f"Every {what} at scale {done.plan.scale}, and the verdict on each claim"
    claims = [replace(claim, rows=claim.deciding) for claim in done.claims] if of_deciding else done.claims
    wide, narrow = forest_figure(claims, title), forest_figure(claims, title, NARROW)
    name = "forest-deciding" if of_deciding else "forest"
    return picture(name, wide, f"{title}. Differences in units of their margin.", narrow)


def operators_of(done: Reproduction) -> dict[str, StudyOperators]:
    """Return the head operators of each study of MAML on images, by its words."""
    found = {study.words: study_operators(done.plan, study) for study in done.studies}
    return {words: operators for words, operators in found.items() if operators is not None}


def appendix_of(path: Path, done: Reproduction, operators: Mapping[str, StudyOperators]) -> Appendix:
    """Return what is printed of the runs and recipes of a reproduction, and beside its claims."""
    plan = done.plan
    present = {study.key for study in done.studies}
    families = [family for family in plan.families if family.key in present]
    recipes = {
        family.words: recipe_to_yaml(sweep_of(family, first_seed=plan.first_seed, num_seeds=1).recipe)
        for family in families
    }
    return Appendix(
        command=command("reproduce", "--dir", published_path(path), "--report"),
        settings=settings_of(done.studies),
        recipes=recipes,
        seconds=seconds_of_parts(path, done.studies),
        beside={"C7": not_shown} if (not_shown := not_shown_words(operators)) else {},
        tables=tables_of(done, operators),
    )


def not_shown_words(operators: Mapping[str, StudyOperators]) -> list[str]:
    """Return for each study whose head operators are not shown why they are not."""
    return [
        f"Operators of image networks, {words}: not shown: {found.why_not}."
        for words, found in operators.items()
        if found.why_not
    ]


def tables_of(done: Reproduction, operators: Mapping[str, StudyOperators]) -> dict[str, list[tuple[str, Grid]]]:
    """Return the tables beside the claims: means over studies, and operators of image networks under C7."""
    pooled = {claim.id: pooled_grid(claim, done.studies) for claim in done.claims}
    tables = {claim: [(POOLED_WORDS, grid)] for claim, grid in pooled.items() if grid is not None}
    if shown := {words: found.by_value for words, found in operators.items() if found.by_value}:
        tables.setdefault("C7", []).append((OPERATOR_WORDS, operator_grid(shown)))
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
