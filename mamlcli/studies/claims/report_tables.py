"""The tables of a reproduction's report: verdicts, predictions, what is open, cells, the plan, and the cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mamlcli.common.machine import short_versions
from mamlcli.common.statistics import Score, estimate
from mamlcli.common.tables import PERCENT, duration, with_interval
from mamlcli.studies.claims.contrasts import CAPPED_LOSS, COLLAPSED, LOG_ODDS, LOSS
from mamlcli.studies.claims.decisions import ALPHA, Interval, Looks
from mamlcli.studies.claims.forest import SHORT_MEASURES, ordered
from mamlcli.studies.claims.markup import Grid
from mamlcli.studies.claims.panels import shown_scores
from mamlcli.studies.claims.plan import OF_PILOTS, Plan
from mamlcli.studies.claims.predicted import EXCESS_SHARE
from mamlcli.studies.claims.predictions import ClaimResult, Row, Study
from mamlcli.studies.claims.rates import EXCEPTIONS
from mamlcli.studies.claims.reproduction import Reproduction, open_rows, value_of_cell
from mamlcli.studies.claims.rest import Rest, rest_words
from mamlcli.studies.claims.words import prose
from mamlcli.studies.sweeps.cell_result import CellResult
from mamlcli.studies.sweeps.collapsed_control import read_control

_NO_BREAK = "\u00a0"  # a number in a narrow column of the page stays in one line


def verdict_grid(claims: Sequence[ClaimResult]) -> Grid:
    """Return one row for each claim: id, verdict, statement, and how its predictions and checks came out."""
    rows = tuple((claim.id, claim.verdict_words, claim.statement, support_words(claim)) for claim in claims)
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
    """Return the predictions of a claim: interval, margin, p-values, mean / sd, look, and the interval of all seeds."""
    header = (
        "study",
        "prediction",
        "measure",
        "verdict",
        "mean [interval]",
        "level",
        "margin",
        "p: holds / fails / no effect",
        "mean / sd",
        "look",
        "all seeds",
    )
    return Grid(header, tuple(_prediction_row(row) for group in ordered(rows) for row in group))


def _prediction_row(row: Row) -> tuple[str, ...]:
    contrast, decision, every = row.contrast, row.decision, row.decision.of_all_seeds
    p_values = (decision.p_holds, decision.p_fails, decision.p_no_effect)
    return (
        row.study_words,
        prose(contrast.words),
        SHORT_MEASURES[contrast.measure],
        decision.verdict,
        interval_words(decision.interval),
        f"{PERCENT * decision.interval.level:.3g}{_NO_BREAK}%",
        f"{contrast.margin:.3g}",
        f"{_NO_BREAK}/ ".join(f"{p:.2g}" if math.isfinite(p) else "-" for p in p_values),
        f"{decision.size:.1f}" if math.isfinite(decision.size) else "-",
        f"{decision.look} of {decision.num_looks}",
        f"{interval_words(every)} ({every.num_seeds})" if every != decision.interval else "as left",
    )


def interval_words(interval: Interval) -> str:
    """Return mean and interval of a difference."""
    if not math.isfinite(interval.half_width):
        return f"{interval.mean:+.4f} [no interval]"
    return f"{interval.mean:+.4f} [{interval.low:+.4f},{_NO_BREAK}{interval.high:+.4f}]"


def check_grid(claim: ClaimResult) -> Grid:
    """Return the exact checks of a claim."""
    rows = tuple(
        (prose(check.name), _error(check.value), _error(check.tolerance), "holds" if check.holds else "fails")
        for check in claim.checks
    )
    return Grid(("exact check", "largest error", "allowed", "verdict"), rows)


def _error(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def open_grid(done: Reproduction) -> Grid:
    """Return what each open prediction would still need."""
    rows = tuple(
        (
            row.contrast.claim,
            f"{row.study_words}: {prose(row.contrast.words)}",
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
    """Return the cells of a study: rate, scores, sizes; below a stack the same layers collapsed before adaptation.

    Capped loss and the share of tasks that diverged have a column where they differ from the loss and from zero.
    """
    cells, texts = study.result.cells, {}
    for cell in cells:
        key = value_of_cell(cell).key
        texts[key] = _cell_texts(study, cell)
        if study.scores.get(LOSS, {}).get(key + COLLAPSED):
            texts[f"{key}, collapsed before adaptation"] = _control_texts(study, cell)
    names = ["seeds", "inner lr", "query loss"]
    names += ["capped loss"] if _is_capped(study) else []
    names += ["query accuracy %"] if any("accuracy" in cell.final for cell in cells) else []
    names += ["tasks diverged %"] if any(cell.diverged_tasks for cell in cells) else []
    names += ["parameters", "of the transform", "parameters when collapsed"]
    rows = tuple((prose(key), *(of[name] for name in names)) for key, of in texts.items())
    return Grid(("cell", *names), rows)


def _is_capped(study: Study) -> bool:
    """Return whether a printed digit of some seed's loss changes where each task's loss is capped."""
    losses, capped = study.scores.get(LOSS, {}), study.scores.get(CAPPED_LOSS, {})
    pairs = ((losses[key][seed], loss) for key, of in capped.items() for seed, loss in of.items())
    return any(abs(loss - at_most) > 5e-4 for loss, at_most in pairs)


def _cell_texts(study: Study, cell: CellResult) -> dict[str, str]:
    """Return the row of a cell, by column."""
    capped = study.scores.get(CAPPED_LOSS, {}).get(value_of_cell(cell).key, {})
    return {
        "seeds": str(len(cell.seeds)),
        "inner lr": f"{cell.inner_lr:.3g}",
        "query loss": with_interval(cell.final.of("loss")),
        "capped loss": _over_seeds(capped.values()),
        "query accuracy %": with_interval(cell.final.of("accuracy"), scale=PERCENT, digits=1),
        "tasks diverged %": f"{PERCENT * cell.diverged_tasks:.2g}",
        "parameters": f"{cell.num_parameters:,}",
        "of the transform": f"{cell.num_transform_parameters:,}",
        "parameters when collapsed": f"{cell.collapse.num_parameters:,}" if cell.collapse else "-",
    }


def _control_texts(study: Study, cell: CellResult) -> dict[str, str]:
    """Return the row of a cell's stacks, collapsed into one layer before they adapt: scores over seeds."""
    key = value_of_cell(cell).key + COLLAPSED
    losses = study.scores[LOSS][key]
    controls = [control for run in cell.run_dirs if (control := read_control(Path(run))) is not None]
    rates = sorted({control.inner_lr for control in controls})
    shown = [f"{rate:.2g}" for rate in (*rates[:1], *rates[1:][-1:])]
    size = f"{cell.collapse.num_parameters:,}" if cell.collapse else "-"
    return {
        "seeds": str(len(losses)),
        "inner lr": " to ".join(shown) or "-",
        "query loss": _over_seeds(losses.values()),
        "capped loss": _over_seeds(study.scores.get(CAPPED_LOSS, {}).get(key, losses).values()),
        "query accuracy %": _over_seeds(shown_scores(study, LOG_ODDS, key).values(), digits=1),
        "tasks diverged %": "-",
        "parameters": size,
        "of the transform": "0",
        "parameters when collapsed": size,
    }


def _over_seeds(values: Iterable[float], *, digits: int = 3) -> str:
    return with_interval(Score.of(estimate(list(values))), digits=digits)


def plan_grid(plan: Plan) -> Grid:
    """Return what the plan fixed before the first tested run."""
    pilots = ", ".join(map(str, plan.pilot_seeds))
    source = (
        "chosen by pilots for this plan" if plan.rates_from == OF_PILOTS else "of earlier pilots, kept in the scale"
    )
    versions = ", ".join(f"{name} {version}" for name, version in short_versions(plan.versions).items())
    rows = (
        ("digest (SHA-256)", plan.digest),
        ("registered", plan.created),
        ("scale", f"{plan.scale}: {plan.words}"),
        ("looks", looks_words(plan.looks)),
        ("tested seeds", f"from {plan.first_seed}; tasks of a seed are its own, the same for all cells"),
        ("inner rates", f"{source}, on seeds {pilots}, which are never tested"),
        *([] if plan.rates_from == OF_PILOTS else [("exceptions of these rates", "; ".join(EXCEPTIONS))]),
        ("families", "; ".join(family.words for family in plan.families)),
        ("left out", "; ".join(plan.left_out) or "nothing"),
        ("margins", margins_words(plan)),
        (
            "predictions",
            f"{len(plan.contrasts)}, of which {sum(contrast.decides for contrast in plan.contrasts)} decide",
        ),
        ("versions at registration", versions),
    )
    return Grid(("of the plan", "value"), rows)


def looks_words(looks: Looks) -> str:
    """Return at how many seeds a plan looks, and with how much of the error."""
    if len(looks.seeds) == 1:
        return f"one look, at {looks.seeds[0]} seeds, with the whole one-sided error of a claim, {ALPHA:g}"
    parts = ", ".join(f"{num} seeds ({alpha:g})" for num, alpha in zip(looks.seeds, looks.alphas, strict=True))
    return f"{len(looks.seeds)} looks, at {parts}: in brackets the one-sided error of each, {ALPHA:g} together"


def margins_words(plan: Plan) -> str:
    """Return the margins of a plan by name: of measures, of differences of differences, and shares of an excess."""
    families = {family.key: family for family in plan.families}
    found: dict[str, dict[str, None]] = {}
    measures = list(SHORT_MEASURES)
    for contrast in sorted(plan.contrasts, key=lambda contrast: measures.index(contrast.measure)):
        family, measure = families[contrast.study], SHORT_MEASURES[contrast.measure]
        if contrast.claim == "C1" and contrast.measure != LOG_ODDS and family.excess is not None:
            name = f"{PERCENT * EXCESS_SHARE:g} % of the shallow model's excess"
            text = f"{family.words} {contrast.margin:#.2g}"
        else:
            name = "differences of differences" if len(contrast.terms) > 2 else "differences"
            text = f"{measure} {contrast.margin:g}"
        found.setdefault(name, {})[text] = None
    order = sorted(found, key=lambda name: name[0].isdigit())
    return "; ".join(f"{name}: {', '.join(found[name])}" for name in order)


def rate_grid(plan: Plan) -> Grid:
    """Return the inner learning rate of every value of every family."""
    rows = tuple(
        (family.words, "; ".join(f"{prose(key)}: {rate:g}" for key, rate in family.rates.items()) or "the recipe's")
        for family in plan.families
    )
    return Grid(("family", "inner learning rates"), rows)


def cost_grid(seconds: Mapping[str, float]) -> Grid:
    """Return the computing of each family, and all together; `seconds` by its words."""
    rows = [(words, duration(value)) for words, value in seconds.items()]
    return Grid(("family", "computing, all processes together"), (*rows, ("together", duration(sum(seconds.values())))))
