"""A reproduction leaves its files here: the report in both forms, its figures, its table, and its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mamlcli.common.files import atomic_write, json_text
from mamlcli.recipe.files import recipe_to_yaml
from mamlcli.studies.claims.claim_figures import CAPTIONS, EVERY_SEED, claim_figures
from mamlcli.studies.claims.claims_csv import claims_csv
from mamlcli.studies.claims.figures import picture
from mamlcli.studies.claims.forest import NARROW, forest_figure
from mamlcli.studies.claims.markup import Picture, to_html
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.claims.report import Appendix, report_markdown, report_title
from mamlcli.studies.claims.reproduction import Reproduction, runs_of, sweep_of, wall_s


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
    markdown = report_markdown(done, forest, by_claim, appendix_of(path, done))
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


def appendix_of(path: Path, done: Reproduction) -> Appendix:
    """Return what is printed of the runs and recipes of a reproduction."""
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
        seconds={study.words: wall_s([study]) for study in done.studies},
    )


def settings_of(studies: Sequence[Study]) -> dict[str, str]:
    """Return the versions and devices that the cells were made with, as their manifests have them; all, if several."""
    found: dict[str, dict[str, None]] = {}
    for study in studies:
        for run in runs_of(study):
            manifest = run.manifest
            for name, value in {**manifest.versions, "device": manifest.device}.items():
                found.setdefault(name, {})[str(value)] = None
    return {name: "; ".join(values) for name, values in found.items()}
