"""What a report shows beside the claims and decides nothing: means over studies, and operators of image networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamlcli.common.errors import RunError
from mamlcli.common.tables import PERCENT
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.forest import SHORT_MEASURES
from mamlcli.studies.claims.markup import Grid
from mamlcli.studies.claims.plan import Plan
from mamlcli.studies.claims.pooled import pooled_mean
from mamlcli.studies.claims.predicted import OPTIMIZER
from mamlcli.studies.claims.predictions import ClaimResult, Row, Study
from mamlcli.studies.claims.reproduction import value_of_cell
from mamlcli.studies.claims.words import prose
from mamlcli.studies.layers.image_operators import HeadOperator, compare, head_operator
from mamlcli.studies.layers.operators import MAX_OPERATOR_SIZE

POOLED_WORDS = (
    "Means over studies of the same comparison, each study counting alike, with 95 % intervals over studies. I² is "
    "the share of the variance of the studies' means that is between studies; Q is about the number of studies less "
    "one where all have the same effect. They decide nothing."
)
OPERATOR_WORDS = (
    "Image networks: the matrix by which a small inner step multiplies the gradient of the head (appended layers "
    "multiplied out), with appended linear layers and with the KFO that was learned without them, on the network of "
    "one block. No best operator is known here. It decides nothing. Distance: to the nearest multiple of the identity, "
    "in [0, 1], 0 for plain gradients. Cosine: of the sorted singular values with those of the KFO of the same seed, 1 "
    "for the same up to scale; its last column is what plain gradients would reach. Mean over seeds, and range."
)


@dataclass(frozen=True)
class StudyOperators:
    """Study operators are those on the collapsed heads of a study, or the reason why they are not shown.

    Attributes:
        by_value: value key -> the operator of each seed, those of KFO last; empty where they are not shown.
        why_not: in words; "" where they are shown.
    """

    by_value: Mapping[str, Sequence[HeadOperator]]
    why_not: str = ""


def pooled_grid(claim: ClaimResult, studies: Sequence[Study]) -> Grid | None:
    """Return the mean over studies of each comparison that several studies of one role have; None where none has.

    Args:
        claim: decided, with all its rows.
        studies: that its rows are of. Losses of different roles have different units, and are not averaged.
    """
    roles = {study.key: study.role for study in studies}
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in claim.rows:
        contrast = row.contrast
        groups.setdefault((roles.get(contrast.study, ""), contrast.words, contrast.measure), []).append(row)
    rows = tuple(_pooled_row(of_group) for of_group in groups.values())
    found = tuple(row for row in rows if row is not None)
    header = ("prediction", "measure", "studies", "mean [interval over studies]", "I²", "Q (p)")
    return Grid(header, found) if found else None


def _pooled_row(rows: Sequence[Row]) -> tuple[str, ...] | None:
    """Return one comparison over its studies; None where fewer than two have a mean and its standard error."""
    samples = [row.decision.prediction.differences for row in rows]
    samples = [sample for sample in samples if len(sample) > 1]
    means = [float(np.mean(sample)) for sample in samples]
    errors = [float(np.std(sample, ddof=1)) / math.sqrt(len(sample)) for sample in samples]
    pooled = pooled_mean(means, errors)
    if pooled is None or pooled.num < 2:
        return None
    low, high = pooled.mean - pooled.half_width, pooled.mean + pooled.half_width
    interval = f"[{low:+.4f}, {high:+.4f}]" if math.isfinite(pooled.half_width) else "(all the same: no interval)"
    return (
        prose(rows[0].contrast.words),
        SHORT_MEASURES[rows[0].contrast.measure],
        str(pooled.num),
        f"{pooled.mean:+.4f} {interval}",
        f"{PERCENT * pooled.i_squared:.0f} %",
        f"{pooled.q:.1f} ({pooled.p_same:.2g})",
    )


# The operators of image networks ------------------------------------------------------------------------------------


def study_operators(plan: Plan, study: Study) -> StudyOperators | None:
    """Return the operators on the collapsed heads of a study of MAML on images; None for any other study.

    They are of the network of one block, with appended layers and with KFO, and of the seeds of the first look, so
    that they cost little; each is kept with its run. None are shown where one of the two kinds is missing, where a
    head is too large, or where a run has no checkpoint any more.
    """
    if study.role != "maml":
        return None
    seeds = plan.seeds(plan.looks.seeds[0])
    kfo = CellValue(1, optimizer=OPTIMIZER)
    found: dict[str, list[HeadOperator]] = {}
    cells = [(value_of_cell(cell), cell) for cell in study.result.cells]
    shown = [(value, cell) for value, cell in cells if value == kfo or value == CellValue(1, layers=value.layers or -1)]
    for value, cell in sorted(shown, key=lambda pair: (pair[0] == kfo, pair[0].layers)):
        runs = [run for seed, run in zip(cell.seeds, cell.run_dirs, strict=False) if seed in seeds]
        try:
            operators = [head_operator(RunDirectory.open(Path(run))) for run in runs]
        except RunError as error:
            got = "" if error.got is None else f", got {error.got}"
            return StudyOperators({}, f"{prose(value.key)}: expected {error.expected}{got}")
        if None in operators:
            return StudyOperators({}, f"the head is too large, above {MAX_OPERATOR_SIZE:,} numbers")
        if operators:
            found[value.key] = [operator for operator in operators if operator is not None]
    if kfo.key not in found or len(found) < 2:
        return StudyOperators({}, "there is no finished run with KFO, or none with appended layers")
    return StudyOperators(found)


def operator_grid(operators: Mapping[str, Mapping[str, Sequence[HeadOperator]]]) -> Grid:
    """Return how far each value's operators are from the identity and how alike they are to KFO's.

    Args:
        operators: study in words -> value -> of each seed, those of KFO last.
    """
    header = ("study", "value", "seeds", "distance to the identity", "cosine with KFO", "plain gradients' cosine")
    rows = []
    for words, by_value in operators.items():
        *_, kfo = by_value.values()
        of_seed = {operator.seed: operator for operator in kfo}
        for value, found in by_value.items():
            pairs = [compare(one, of_seed[one.seed]) for one in found if one.seed in of_seed]
            rows.append(
                (
                    words,
                    prose(value),
                    str(len(found)),
                    _mean_and_range([one.distance_to_identity for one in found]),
                    "-" if found is kfo else _mean_and_range([pair.cosine_of_spectra for pair in pairs]),
                    _mean_and_range([pair.cosine_with_identity for pair in pairs]),
                )
            )
    return Grid(header, tuple(rows))


def _mean_and_range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
