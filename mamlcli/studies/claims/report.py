"""A reproduction is reported in report.md beside its figures, and in report.html, which needs no other file.

It is written once, as Markdown, and HTML is made from that.
"""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

from mamlcli.common.tables import PERCENT, with_interval
from mamlcli.studies.claims.decisions import FAILS, HOLDS, MAX_SEEDS, MIN_SEEDS, UNDECIDED, Decision
from mamlcli.studies.claims.predictions import ClaimResult, Study
from mamlcli.studies.sweeps.cell_result import CellResult
from mamlcli.studies.sweeps.result import StudyResult
from mamlcli.studies.sweeps.scores import GridValue


@dataclass(frozen=True)
class Grid:
    """A grid is a table: a header and rows of plain text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        escaped = [[escape(cell).replace("|", "\\|") for cell in line] for line in (self.header, *self.rows)]
        lines = [escaped[0], ["---"] * len(self.header), *escaped[1:]]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Picture:
    """A picture is a figure of the report, in bytes: as PNG for report.html, and as SVG for print."""

    name: str
    png: bytes
    caption: str
    svg: bytes = b""

    def to_markdown(self) -> str:
        """Return the figure in Markdown."""
        return f"![{escape(self.caption)}]({self.name})"


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.85rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
img { max-width: 100%; } figcaption { color: #555; font-size: 0.85rem; } figure { margin: 1rem 0; }
"""


def report_markdown(
    *,
    title: str,
    intro: Sequence[str],
    settings: Mapping[str, str],
    recipes: Mapping[str, str],
    results: Sequence[ClaimResult],
    studies: Sequence[Study],
    pictures: Mapping[str, Sequence[Picture]],
) -> str:
    """Return a report as Markdown; its figures are files beside it.

    Args:
        title: of the report.
        intro: paragraphs: scale, what was left out, what failed.
        settings: versions, device, seeds and the like, in words.
        recipes: the base recipe of each study as YAML, by its words.
        results: the decided claims.
        studies: what they rest on.
        pictures: figures of each study, by its key.
    """
    blocks = [heading(title, 1), *map(escape, intro)]
    blocks += [heading("Verdicts", 2), verdict_grid(results).to_markdown(), escape(RULE)]
    blocks.append(heading("Claims", 2))
    for result in results:
        blocks += _claim_blocks(result)
    blocks.append(heading("Studies", 2))
    for study in studies:
        blocks += _study_blocks(study)
        blocks += [picture.to_markdown() for picture in pictures.get(study.key, ())]
    blocks += [heading("Settings", 2), Grid(("what", "value"), tuple(settings.items())).to_markdown()]
    for words, text in recipes.items():
        blocks += [heading(f"Recipe of {words}, before the changes of each cell", 3), f"```yaml\n{text.rstrip()}\n```"]
    return "\n\n".join(blocks) + "\n"


RULE = (
    "How a verdict is reached: each prediction is a difference paired by seed. It holds if its interval lies wholly on "
    "the predicted side of zero, fails if wholly on the other, and is undecided otherwise, and always with fewer than "
    "three seeds. The predictions of one claim share an error of 5 % (Holm). A claim holds if all of its predictions "
    "and exact checks hold, fails if one fails, and is undecided otherwise. Inner learning rates are chosen for each "
    "cell by the query loss on meta-validation tasks, mean over seeds; scores are on meta-test tasks."
)


def verdict_grid(results: Sequence[ClaimResult]) -> Grid:
    """Return one row for each claim: id, statement, verdict, and how many of its predictions and checks hold."""
    rows = []
    for result in results:
        parts = [decision.verdict for decision in result.decisions]
        counts = ", ".join(f"{parts.count(v)} {v}" for v in ("holds", "fails", "undecided") if v in parts)
        checks = f"{sum(check.holds for check in result.checks)} of {len(result.checks)} exact checks hold"
        support = "; ".join([*([f"predictions: {counts}"] if counts else []), *([checks] if result.checks else [])])
        rows.append((result.id, result.statement, result.verdict, support))
    return Grid(("claim", "statement", "verdict", "evidence"), tuple(rows))


def _claim_blocks(result: ClaimResult) -> list[str]:
    blocks = [heading(f"{result.id}: {result.verdict}", 3), escape(result.statement)]
    blocks.append(escape(f"Prediction: {result.rule}"))
    if result.decisions:
        header = ("difference", "predicted", "mean, interval over seeds", "level", "p", "verdict", "to decide it")
        blocks.append(Grid(header, tuple(map(_decision_row, result.decisions))).to_markdown())
    if result.checks:
        rows = tuple(
            (check.name, f"{check.value:.1e}", f"{check.tolerance:.0e}", "holds" if check.holds else "fails")
            for check in result.checks
        )
        blocks.append(Grid(("exact check", "largest error", "allowed", ""), rows).to_markdown())
    blocks += [escape(f"Not looked at: {text}.") for text in result.missing]
    blocks += [escape(f"{note}.") for note in result.notes]
    blocks.append(escape(reason(result)))
    return blocks


def reason(result: ClaimResult) -> str:
    """Return why a claim has its verdict, and what would decide an undecided one."""
    if result.verdict == HOLDS:
        return "Why: every prediction lies on the predicted side, and every exact check holds."
    failed = [d.prediction.name for d in result.decisions if d.verdict == FAILS]
    failed += [check.name for check in result.checks if not check.holds]
    if result.verdict == FAILS:
        return (
            f"Why: on the other side lie: {'; '.join(failed)}. More seeds will hardly change that at this scale; "
            "longer training and larger models (--scale paper) may."
        )
    open_ones = [d for d in result.decisions if d.verdict == UNDECIDED]
    reasons = [f"{text}" for text in result.missing]
    if any(len(d.prediction.differences) < MIN_SEEDS for d in open_ones):
        reasons.append(f"fewer than {MIN_SEEDS} seeds decide nothing")
    elif open_ones:
        reasons.append(f"the interval of {len(open_ones)} of {len(result.decisions)} predictions contains zero")
    if any(len(d.prediction.differences) < MIN_SEEDS for d in open_ones):
        return f"Why: {'; '.join(reasons)}. Run it with --seeds {MIN_SEEDS} or more."
    known = [d.seeds_needed for d in open_ones if d.seeds_needed is not None and d.seeds_needed <= MAX_SEEDS]
    text = f"Why: {'; '.join(reasons)}."
    if known and len(known) == len(open_ones):
        return f"{text} With the variance measured, {max(known)} seeds would decide: --seeds {max(known)}."
    return f"{text} No number of seeds that is practical would decide; another scale (--scale paper) may."


def _decision_row(decision: Decision) -> tuple[str, ...]:
    num = len(decision.prediction.differences)
    return (
        decision.prediction.name,
        "< 0" if decision.prediction.predicted_sign < 0 else "> 0",
        f"{decision.mean:.4f}" + (f" ± {decision.half_width:.4f}" if num > 1 else "") + f" ({seeds_count(num)})",
        f"{PERCENT * decision.level:.1f} %",
        f"{decision.p_value:.2g}" if math.isfinite(decision.p_value) else "-",
        decision.verdict,
        seeds_words(decision),
    )


def seeds_count(num: int) -> str:
    """Return a number of seeds in words."""
    return f"{num} seed{'s' if num != 1 else ''}"


def seeds_words(decision: Decision) -> str:
    """Return how many seeds would decide an undecided prediction, as measured variance says."""
    if decision.verdict != UNDECIDED:
        return ""
    if decision.seeds_needed is None:
        return "nothing can be said"
    if decision.seeds_needed > MAX_SEEDS:
        return f"more than {MAX_SEEDS} seeds"
    return f"about {decision.seeds_needed} seeds"


def _study_blocks(study: Study) -> list[str]:
    result = study.result
    has_accuracy = any("accuracy" in cell.final for cell in result.cells)
    header = ["cell", "inner lr, chosen", "query loss", *(["query accuracy %"] if has_accuracy else [])]
    header += ["at the recipe's inner lr", "parameters", "of the transform", "collapsed"]
    rows = []
    for cell in result.cells:
        row = [cell_words(cell.grid), f"{cell.inner_lr:g}", with_interval(cell.final.of("loss"))]
        row += [with_interval(cell.final.of("accuracy"), scale=PERCENT, digits=1)] if has_accuracy else []
        row += [_fixed_words(cell), f"{cell.num_parameters:,}", f"{cell.num_transform_parameters:,}"]
        rows.append((*row, f"{cell.collapse.num_parameters:,}" if cell.collapse else "-"))
    blocks = [heading(study.words, 3), Grid(tuple(header), tuple(rows)).to_markdown()]
    over = "seeds" if len(result.seeds) > 1 else "tasks, of the one seed"
    blocks.append(escape(f"Mean ± half-width of the 95 % interval over {over}. {_references(result)}"))
    if study.operators:
        blocks += [escape(OPERATOR_WORDS), operator_grid(study).to_markdown()]
    return blocks


OPERATOR_WORDS = (
    "The operator D that an adaptation applies to the support gradient of the one-layer model (w = -D g), beside the "
    "best one, D*, of the finite support set. Distances are relative, in coordinates in which the inputs are white; "
    "'scaled': after the best scalar factor. All steps: D fitted over tasks. Loss: expected query loss after "
    "one step with D, in closed form (mean over seeds)."
)


def operator_grid(study: Study) -> Grid:
    """Return the learned operators beside the best one, means over seeds."""
    any_report = next(iter(study.operators.values()))[0]
    rows = [
        (name, "-", "-", f"{operator.distance_scaled:.3f}", f"{operator.loss:.4f}")
        for name, operator in (("best operator D*", any_report.optimal), ("best scalar alpha I", any_report.plain))
    ]
    for value, reports in study.operators.items():
        first = [report.one_step.distance_scaled for report in reports if report.one_step]
        explained = [report.all_steps_explained for report in reports if report.all_steps_explained is not None]
        every = [report.all_steps for report in reports if report.all_steps]
        distances, losses = [operator.distance_scaled for operator in every], [operator.loss for operator in every]
        rows.append((value, _mean(first), _mean(explained), _mean(distances), _mean(losses, digits=4)))
    header = ("operator", "scaled distance, first step", "explained by all steps", "scaled distance, all steps", "loss")
    return Grid(header, tuple(rows))


def _mean(values: Sequence[float], digits: int = 3) -> str:
    return f"{sum(values) / len(values):.{digits}f}" if values else "-"


def cell_words(value: GridValue) -> str:
    """Return one cell of a reproduction in words."""
    parts = [f"depth {value.depth}"]
    parts += [f"+ {value.layers} linear"] if value.layers else []
    parts += [value.optimizer] if value.optimizer != "none" else []
    return " ".join(parts)


def _fixed_words(cell: CellResult) -> str:
    fixed = cell.at_fixed_rate
    if fixed is None or fixed.scores is None:
        return "no number: a seed diverged or is missing"
    score = with_interval(fixed.scores.of("loss"))
    accuracy = with_interval(fixed.scores.of("accuracy"), scale=PERCENT, digits=1)
    return f"{fixed.inner_lr:g}: {score}" + (f"; {accuracy} %" if accuracy != "-" else "")


def _references(result: StudyResult) -> str:
    words = []
    for name, values in result.references.items():
        numbers = [
            f"{PERCENT * values.mean(metric):.1f} %" if metric == "accuracy" else f"loss {values.mean(metric):.3f}"
            for metric in values.values
        ]
        words.append(f"{name}: {', '.join(numbers)}")
    if result.chance_accuracy is not None:
        words.append(f"chance: {PERCENT * result.chance_accuracy:.0f} %")
    return "References: " + "; ".join(words) + "." if words else ""


# Markdown, and HTML of it -----------------------------------------------------------------------------------------

# What would be markup in a text: a star, a tag, a link, and underscores that do not stand inside a word.
_MARKUP = re.compile(r"[\\`*\[\]]|<(?=[\w/!?])|(?<!\w)_|_(?!\w)")


def escape(text: str) -> str:
    """Return a plain text as Markdown that shows it as it is."""
    return _MARKUP.sub(lambda found: f"\\{found.group()}", text)


def heading(text: str, level: int) -> str:
    """Return a heading in Markdown; level 1 is the report's title."""
    return f"{'#' * level} {escape(text)}"


def to_html(markdown: str, title: str, pictures: Iterable[Picture]) -> str:
    """Return a report as one HTML file.

    Args:
        markdown: the report; HTML in it is shown as text.
        title: of the page.
        pictures: the figures that it names, each alone in a paragraph; they become part of the file.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    figures = {picture.name: _figure(picture) for picture in pictures}
    tokens: list[Token] = []
    for token in parser.parse(markdown):
        image = token.children[0] if token.children and len(token.children) == 1 else None
        if image is not None and image.type == "image":
            tokens[-1] = Token("html_block", "", 0, content=figures[str(image.attrs["src"])])
        elif not (token.type == "paragraph_close" and tokens[-1].type == "html_block"):
            tokens.append(token)
    body = parser.renderer.render(tokens, parser.options, {})
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _figure(picture: Picture) -> str:
    data, caption = base64.b64encode(picture.png).decode(), html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>\n"
