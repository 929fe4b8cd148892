"""A reproduction is reported in report.md beside its figures, and in report.html, which needs no other file.

It is written once, as Markdown, and HTML is made from that. Every number is one of the reproduction's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mamlcli.common.tables import PERCENT, duration
from mamlcli.studies.claims.calls import elapsed_words
from mamlcli.studies.claims.markup import Grid, Picture, escape, heading
from mamlcli.studies.claims.predictions import ClaimResult, Study
from mamlcli.studies.claims.report_tables import (
    cell_grid,
    check_grid,
    cost_grid,
    open_grid,
    plan_grid,
    prediction_grid,
    rate_grid,
    verdict_grid,
)
from mamlcli.studies.claims.reproduction import Reproduction, open_rows
from mamlcli.studies.claims.words import (
    COLUMNS,
    FOREST_WORDS,
    OVER,
    REST,
    RULE,
    deviation_words,
    prose,
    reason,
    short_words,
)


@dataclass(frozen=True)
class Appendix:
    """An appendix holds what the report prints beside the reproduction itself.

    Attributes:
        command: that makes report and figures again from what is there, and runs nothing.
        settings: versions and device of the cells, in words.
        recipes: the base recipe of each family as YAML, by its words.
        seconds: of computing, by the words of the family.
        beside: further paragraphs of a claim, such as means over studies with their heterogeneity, by its id; they
            decide nothing.
        tables: further tables of a claim, each with a paragraph that says what it shows, by its id; they decide
            nothing either.
    """

    command: str
    settings: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tables: Mapping[str, Sequence[tuple[str, Grid]]] = field(default_factory=dict)


def report_title(done: Reproduction) -> str:
    """Return the title of a report."""
    return f"When MAML can adapt fast: claims C1 to C7 at scale {done.plan.scale}"


def report_markdown(
    done: Reproduction, forest: Picture, pictures: Mapping[str, Sequence[Picture]], appendix: Appendix
) -> str:
    """Return a report as Markdown; its figures are files beside it.

    Args:
        done: the reproduction.
        forest: the forest plot.
        pictures: figures of each claim, by its id.
        appendix: what else is printed.
    """
    blocks = [heading(report_title(done), 1), *map(escape, _intro(done))]
    blocks += [verdict_grid(done.claims).to_markdown(), heading("Every prediction", 2), forest.to_markdown()]
    blocks += [_made_by(appendix), escape(FOREST_WORDS), escape(RULE), escape(OVER)]
    blocks += [heading("Claims", 2), escape(COLUMNS)]
    for claim in done.claims:
        blocks += _claim_blocks(claim, done, pictures.get(claim.id, ()), appendix)
    blocks += _open_blocks(done)
    blocks.append(heading("Cells", 2))
    for study in done.studies:
        blocks += _study_blocks(study)
    blocks += _plan_blocks(done)
    blocks += [heading("Cost", 2), cost_grid(appendix.seconds).to_markdown(), elapsed_words(done.calls)]
    blocks += _again_blocks(appendix)
    return "\n\n".join(blocks) + "\n"


def _intro(done: Reproduction) -> Iterator[str]:
    plan = done.plan
    yield short_words(done.claims)
    yield deviation_words(done.deviations)
    seeds = plan.looks.seeds
    reached = (
        f"look {done.look} of {len(seeds)}, at {seeds[done.look - 1]} seeds" if done.look else "before its first look"
    )
    yield (
        f"Scale {plan.scale}: {plan.words}. The plan, registered before the first tested run, has the digest "
        f"{plan.digest[:12]}…; this is {reached}; {duration(done.wall_s)} of computing in all processes together."
    )
    if done.not_done:
        yield f"Not done yet: {'; '.join(done.not_done)}."
    if done.failures:
        yield f"Cells that failed: {'; '.join(done.failures)}."


def _claim_blocks(
    claim: ClaimResult, done: Reproduction, pictures: Sequence[Picture], appendix: Appendix
) -> Iterator[str]:
    yield heading(f"{claim.id}: {claim.verdict_words}", 3)
    yield escape(claim.statement)
    yield escape(f"Predicted: {claim.rule}")
    yield escape(reason(claim))
    yield from (picture.to_markdown() for picture in pictures)
    if pictures:
        yield _made_by(appendix)
    if claim.deciding:
        yield prediction_grid(claim.deciding).to_markdown()
    if claim.checks:
        yield check_grid(claim).to_markdown()
    yield from (escape(f"Not looked at: {prose(text)}.") for text in claim.missing)
    yield from (escape(f"{prose(note)}.") for note in claim.notes)
    yield from _beside_blocks(claim, done, appendix)


def _made_by(appendix: Appendix) -> str:
    return f"Made by `{appendix.command}`"


def _beside_blocks(claim: ClaimResult, done: Reproduction, appendix: Appendix) -> Iterator[str]:
    """Yield what stands beside a claim, if anything: premises, notes, predictions, tables."""
    premises = [f"{study.words}: {record.words.rstrip('.')}." for study in done.studies for record in study.premises]
    beside = [*(premises if claim.id == "C2" else ()), *appendix.beside.get(claim.id, ())]
    beside += [f"{prose(note)}." for note in claim.beside_notes]
    if claim.id == "C2" and not premises:
        beside.append("Premise, that a shallow network does for these tasks: not tested.")
    tables = appendix.tables.get(claim.id, ())
    if beside or claim.beside or tables:
        yield "Beside the claim, deciding nothing of it:"
    yield from map(escape, beside)
    if claim.beside:
        yield prediction_grid(claim.beside).to_markdown()
    for words, grid in tables:
        yield escape(words)
        yield grid.to_markdown()


def _open_blocks(done: Reproduction) -> Iterator[str]:
    yield heading("What open predictions need", 2)
    if not open_rows(done.claims):
        yield "No claim has an open prediction."
        return
    yield open_grid(done).to_markdown()
    yield REST
    if done.new_plan is not None:
        yield done.new_plan.words
    if done.next_seeds is not None and done.next_hours is not None:
        yield f"The plan's next look is at {done.next_seeds} seeds: about {duration(3600 * done.next_hours)}."


def _study_blocks(study: Study) -> Iterator[str]:
    yield heading(study.words, 3)
    if not study.result.cells:
        yield "No cell has finished."
        return
    yield cell_grid(study).to_markdown()
    over = "seeds" if len(study.result.seeds) > 1 else "tasks, of the one seed"
    yield escape(f"Mean ± half-width of the 95 % interval over {over}. {_references(study)}".rstrip())


def _references(study: Study) -> str:
    words = []
    for name, values in study.result.references.items():
        numbers = [
            f"{PERCENT * values.mean(metric):.1f} %" if metric == "accuracy" else f"loss {values.mean(metric):.4f}"
            for metric in values.values
        ]
        words.append(f"{name}: {', '.join(numbers)}")
    if study.result.chance_accuracy is not None:
        words.append(f"chance: {PERCENT * study.result.chance_accuracy:.0f} %")
    return "References: " + "; ".join(words) + "." if words else ""


def _plan_blocks(done: Reproduction) -> Iterator[str]:
    yield heading("Plan and deviations", 2)
    yield plan_grid(done.plan).to_markdown()
    yield rate_grid(done.plan).to_markdown()
    yield heading("Deviations from the plan", 3)
    yield "\n".join(f"- {escape(text)}" for text in done.deviations) or "None."


def _again_blocks(appendix: Appendix) -> Iterator[str]:
    yield heading("Settings", 2)
    yield Grid(("of the cells", "value"), tuple(appendix.settings.items())).to_markdown()
    yield f"Report, tables and figures are made again, without running anything, by `{appendix.command}`."
    for words, text in appendix.recipes.items():
        yield heading(f"Recipe of {words}, before the changes of each cell", 3)
        yield f"```yaml\n{text.rstrip()}\n```"
