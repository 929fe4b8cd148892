"""A finished reproduction with scores made by hand, of the shape of the scale for laptops; nothing is trained."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mamlcli.common.statistics import Score
from mamlcli.studies.claims.claims import contrasts_of, decide_claims
from mamlcli.studies.claims.contrasts import CAPPED_LOSS, COLLAPSED, LOG_ODDS, LOSS, OPERATOR
from mamlcli.studies.claims.decisions import UNDECIDED, one_look
from mamlcli.studies.claims.plan import FIRST_SEED, PILOT_SEEDS, Plan
from mamlcli.studies.claims.predictions import Study
from mamlcli.studies.claims.reproduction import Reproduction
from mamlcli.studies.claims.rest import Rest
from mamlcli.studies.claims.scales import SCALES
from mamlcli.studies.layers.optimum import OperatorComparison, OptimumReport
from mamlcli.studies.sweeps.cell_result import CellResult, CurvePoint
from mamlcli.studies.sweeps.scores import GridValue, StudyScores
from tests.helpers.studies import grid_result


def made_reproduction(num_seeds=4, scale="laptop", looks=None):
    """Every family of a scale, with scores that grow with depth, layers and transforms, and random seeds."""
    families = SCALES[scale]().families
    plan = Plan(
        scale,
        "a scale made by hand",
        looks or one_look(num_seeds),
        FIRST_SEED,
        PILOT_SEEDS,
        families,
        ("omniglot: its pack is not here",),
        contrasts_of(families),
        {"mamlcli": "0.2.0", "torch": "2.6"},
        "2026-11-26T12:00:00+00:00",
    )
    generator = np.random.default_rng(0)
    studies = tuple(made_study(family, num_seeds, generator) for family in families)
    claims = tuple(decide_claims(plan, studies))
    rows = [row for claim in claims for row in claim.rows if row.decision.verdict == UNDECIDED]
    rest = {row.contrast.key: Rest(row.decision.seeds_needed, 2.5) for row in rows}
    deviations = ("a pack is <missing>",)
    return Reproduction(plan, claims, studies, deviations, (), 1, rest, wall_s=5000.0)


def made_study(family, num_seeds, generator):
    is_image = family.role in ("maml", "anil")
    scores = {}
    values = {value.key: goodness(value) for value in family.values}
    if is_image:
        values |= {v.key + COLLAPSED: 0.0 for v in family.values if v.layers}
    for key, good in values.items():
        for seed in range(FIRST_SEED, FIRST_SEED + num_seeds):
            noise = generator.normal(0.0, 0.04)
            odds = -0.7 + 0.6 * good + noise
            loss = 0.25 + 1.3 * math.exp(-0.4 * good) + 0.5 * noise if is_image else 0.4 - 0.05 * good + 0.1 * noise
            numbers = {LOSS: loss, CAPPED_LOSS: loss, LOG_ODDS: odds, OPERATOR: 0.7 - 0.2 * good + noise}
            left_out = LOG_ODDS if family.role == "linear-regression" else OPERATOR
            for measure, number in numbers.items():
                if measure != left_out:
                    scores.setdefault(measure, {}).setdefault(key, {})[seed] = number
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + num_seeds))
    cells = tuple(made_cell(value, scores, seeds, family.rates.get(value.key, 0.4)) for value in family.values)
    floors = {"linear-regression": {"posterior mean": 0.1}, "logistic": {"Bayes predictive": 0.3, "MAP": 0.396}}
    references = {name: StudyScores({"loss": Score(loss)}, None) for name, loss in floors.get(family.role, {}).items()}
    result = replace(
        grid_result(), cells=cells, seeds=seeds, references=references, directory="no-such-folder", comparisons=()
    )
    operators = {}
    if family.role == "linear-regression":
        operators = {value.key: [made_operators(goodness(value))] * num_seeds for value in family.values}
    return Study(family.key, family.words, family.role, scores, result, operators)


def goodness(value):
    """How well a value adapts: more with depth and layers; a transform helps less the deeper the network is."""
    of_transform = {"none": 0.0, "meta-sgd": 0.05}.get(value.optimizer, 2.0 / value.depth)
    return 1.2 * (value.depth - 1) + 0.5 * value.layers + of_transform - (0.5 if value.width else 0.0)


def made_cell(value, scores, seeds, rate):
    def final(measure):
        return float(np.mean(list(scores[measure][value.key].values())))

    metrics = {"loss": Score(final(LOSS), 0.02)}
    if LOG_ODDS in scores:
        metrics["accuracy"] = Score(1.0 / (1.0 + math.exp(-final(LOG_ODDS))), 0.01)
    start = {"loss": Score(1.6, 0.01), "accuracy": Score(0.2, 0.01)}
    curve = [CurvePoint(0, StudyScores({name: start[name] for name in metrics}, "seeds"))]
    curve += [CurvePoint(step, StudyScores(metrics, "seeds")) for step in (1, 2, 3)]
    grid = GridValue(value.depth, value.optimizer, value.layers, value.width)
    num_parameters = 100 * value.depth * (value.width or 32)
    return CellResult(grid, seeds, (), rate, tuple(curve), num_parameters, 400 if value.optimizer != "none" else 0)


def made_operators(good):
    best, learned = (
        OperatorComparison(np.diag(d), 0.1, 1.0, 0.2, 0.1) for d in ([8.0, 4.0, 2.0], [8.0, 3.0, 1 + good])
    )
    return OptimumReport(best, best, learned, learned, 0.9)
