"""The tables of a reproduction's report: verdicts, predictions, what is open, cells, the plan, and the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mamlcli.common.machine import short_versions
from mamlcli.common.tables import PERCENT, duration, with_interval
from mamlcli.studies.claims.decisions import ALPHA, Interval
from mamlcli.studies.claims.forest import SHORT_MEASURES, ordered
from mamlcli.studies.claims.markup import Grid
from mamlcli.studies.claims.plan import OF_PILOTS, Plan
from mamlcli.studies.claims.predictions import ClaimResult, Row, Study
from mamlcli.studies.claims.reproduction import Reproduction, open_rows, value_of_cell
from mamlcli.studies.claims.rest import Rest, rest_words

_NO_BREAK = "\u00a0"  # a number in a narrow column of the page stays in one line


def verdict_grid(claims: Sequence[ClaimResult]) -> Grid:
    """Return one row for each claim: id, verdict, statement, and how its predictions and checks came out."""
    rows = tuple((claim.id, claim.verdict, claim.statement, support_words(claim)) for claim in claims)
    return Grid(("claim", "verdict", "statement", "predictions, exact checks"), rows)


def support_words(claim: ClaimResult) -> str:
    """Return how many of a claim's deciding predictions have which verdict, and how many exact checks hold."""
    verdicts = [row.decision.verdict for row in claim.deciding]
    parts = [f"{verdict}: {verdicts.count(verdict)}" for verdict in dict.fromkeys(verdicts)]
    if claim.checks:
        parts.append(f"{sum(check.holds for check in claim.checks)} of {len(claim.checks)} exact checks hold")
    if claim.missing:
        parts.append(f"{len(claim.missing)} without data")
    return ", ".join(parts)


def prediction_grid(rows: Sequence[Row]) -> Grid:
    """Return the predictions of a claim: interval, margin, p-values, size, look, and the interval of all seeds."""
    header = (
        "study",
        "prediction",
        "measure",
        "verdict",
        "mean [interval]",
        "level",
        "margin",
        "p: holds / fails / no effect",
        "size",
        "look",
        "all seeds",
    )
    return Grid(header, tuple(_prediction_row(row) for group in ordered(rows) for row in group))


def _prediction_row(row: Row) -> tuple[str, ...]:
    contrast, decision, every = row.contrast, row.decision, row.decision.of_all_seeds
    p_values = (decision.p_holds, decision.p_fails, decision.p_no_effect)
    return (
        row.study_words,
        contrast.words,
        SHORT_MEASURES[contrast.measure],
        decision.verdict,
        interval_words(decision.interval),
        f"{PERCENT * decision.interval.level:.3g}{_NO_BREAK}%",
        f"{contrast.margin:.3g}",
        f"{_NO_BREAK}/ ".join(f"{p:.1g}" if math.isfinite(p) else "-" for p in p_values),
        f"{decision.size:.1f}" if math.isfinite(decision.size) else "-",
        f"{decision.look} of {decision.num_looks}",
        f"{interval_words(every)} ({every.num_seeds})"
        if every != decision.interval
        else f"the same ({every.num_seeds})",
    )


def interval_words(interval: Interval) -> str:
    """Return mean and interval of a difference."""
    if not math.isfinite(interval.half_width):
        return f"{interval.mean:+.4f} [no interval]"
    return f"{interval.mean:+.4f} [{interval.low:+.4f},{_NO_BREAK}{interval.high:+.4f}]"


def check_grid(claim: ClaimResult) -> Grid:
    """Return the exact checks of a claim."""
    rows = tuple(
        (check.name, f"{check.value:.1e}", f"{check.tolerance:.0e}", "holds" if check.holds else "fails")
        for check in claim.checks
    )
    return Grid(("exact check", "largest error", "allowed", "verdict"), rows)


def open_grid(done: Reproduction) -> Grid:
    """Return what each open prediction would still need."""
    rows = tuple(
        (
            row.contrast.claim,
            f"{row.study_words}: {row.contrast.words}",
            SHORT_MEASURES[row.contrast.measure],
            interval_words(row.decision.interval),
            f"{row.contrast.margin:.3g}",
            str(row.decision.of_all_seeds.num_seeds),
            rest_words(done.rest.get(row.contrast.key, Rest(None, None)), row.decision.verdict),
        )
        for row in open_rows(done.claims)
    )
    return Grid(("claim", "prediction", "measure", "mean [interval]", "margin", "seeds", "would decide it"), rows)


def cell_grid(study: Study) -> Grid:
    """Return the cells of a study: rate, scores, sizes."""
    has_accuracy = any("accuracy" in cell.final for cell in study.result.cells)
    header = ["cell", "seeds", "inner lr", "query loss", *(["query accuracy %"] if has_accuracy else [])]
    header += ["parameters", "of the transform", "collapsed"]
    rows = []
    for cell in study.result.cells:
        row = [value_of_cell(cell).key, str(len(cell.seeds)), f"{cell.inner_lr:g}"]
        row.append(with_interval(cell.final.of("loss")))
        row += [with_interval(cell.final.of("accuracy"), scale=PERCENT, digits=1)] if has_accuracy else []
        row += [f"{cell.num_parameters:,}", f"{cell.num_transform_parameters:,}"]
        rows.append((*row, f"{cell.collapse.num_parameters:,}" if cell.collapse else "-"))
    return Grid(tuple(header), tuple(rows))


def plan_grid(plan: Plan) -> Grid:
    """Return what the plan fixed before the first tested run."""
    looks = "; ".join(
        f"{seeds} seeds (error {alpha:g})" for seeds, alpha in zip(plan.looks.seeds, plan.looks.alphas, strict=True)
    )
    pilots = ", ".join(map(str, plan.pilot_seeds))
    source = (
        "chosen by pilots for this plan" if plan.rates_from == OF_PILOTS else "of earlier pilots, kept in the scale"
    )
    margins = sorted({(contrast.measure, contrast.margin) for contrast in plan.contrasts})
    versions = ", ".join(f"{name} {version}" for name, version in short_versions(plan.versions).items())
    rows = (
        ("digest (SHA-256)", plan.digest),
        ("registered", plan.created),
        ("scale", f"{plan.scale}: {plan.words}"),
        ("looks", f"{looks}; one-sided error {ALPHA:g} of each claim, together"),
        ("tested seeds", f"from {plan.first_seed}; tasks of a seed are its own, the same for all cells"),
        ("inner rates", f"{source}, on seeds {pilots}, which are never tested"),
        ("families", "; ".join(family.words for family in plan.families)),
        ("left out", "; ".join(plan.left_out) or "nothing"),
        ("margins", "; ".join(f"{SHORT_MEASURES[measure]} {margin:.3g}" for measure, margin in margins)),
        (
            "predictions",
            f"{len(plan.contrasts)}, of which {sum(contrast.decides for contrast in plan.contrasts)} decide",
        ),
        ("versions at registration", versions),
    )
    return Grid(("of the plan", "value"), rows)


def rate_grid(plan: Plan) -> Grid:
    """Return the inner learning rate of every value of every family."""
    rows = tuple(
        (family.words, "; ".join(f"{key}: {rate:g}" for key, rate in family.rates.items()) or "the recipe's")
        for family in plan.families
    )
    return Grid(("family", "inner learning rates"), rows)


def cost_grid(seconds: Mapping[str, float]) -> Grid:
    """Return the computing of each family, and all together; `seconds` by its words."""
    rows = [(words, duration(value)) for words, value in seconds.items()]
    return Grid(("family", "computing, all processes together"), (*rows, ("together", duration(sum(seconds.values())))))
