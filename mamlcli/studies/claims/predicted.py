"""What each claim of the paper (C1 to C7) predicts of the cells of a family, one function each.

The predictions are contrasts, made from the families alone, before the first tested run. Every prediction about
adaptation is made twice, on two measures, and a claim holds when both do.

Source: the claims are those of Arnold, Iqbal, Sha 2021, arXiv 1910.13603. Margins, fixed depths, and what stands beside
a claim without deciding it, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from mamlcli.studies.claims.contrasts import (
    CAPPED_LOSS,
    COLLAPSED,
    EQUAL_TO_KFO,
    EQUAL_TO_SHALLOW,
    LOG_ODDS,
    LOSS,
    OPERATOR,
    CellValue,
    Contrast,
    advantage_shrinks,
    better,
)
from mamlcli.studies.claims.plan import Family

# The smallest effects that matter, by measure. For differences of differences the loss's is twice as large.
MARGINS = {LOSS: 0.02, CAPPED_LOSS: 0.02, LOG_ODDS: 0.1, OPERATOR: 0.02}
MARGINS_OF_TWO = {LOSS: 0.04, LOG_ODDS: 0.1}

# Of the shallow model's excess over the floor, the share that matters in C1.
EXCESS_SHARE = 0.05

ADAPTATION = (LOSS, LOG_ODDS)
C1_MEASURES = {"linear-regression": (LOSS, CAPPED_LOSS), "logistic": ADAPTATION}
C1_DEPTHS = {"linear-regression": 2, "logistic": 3}

SHALLOW = CellValue(1)
# Of the transforms, the one that C4 to C6 are decided on.
OPTIMIZER = "kfo"
C5_DEPTHS = (2, 4)


def c1(family: Family) -> list[Contrast]:
    """Predict that the deeper linear model adapts better; beside it, what transforms on the shallow one do."""
    if family.role not in C1_MEASURES:
        return []
    deeper = CellValue(C1_DEPTHS[family.role])
    rows = []
    for measure in C1_MEASURES[family.role]:
        margin = MARGINS[measure]
        if measure != LOG_ODDS and family.excess is not None:
            margin = EXCESS_SHARE * family.excess
        rows += _better("C1", family, deeper, SHALLOW, (measure,), margin=margin)
        for value in _transforms(family):
            for other in (SHALLOW, deeper):
                rows += _better("C1", family, value, other, (measure,), margin=margin, decides=False)
    return rows


def c2(family: Family) -> list[Contrast]:
    """Predict that each deeper network adapts better than that of one block; beside it, depth at equal sizes."""
    if family.role != "maml":
        return []
    rows = _depths("C2", family)
    return [*rows, *_better("C2", family, EQUAL_TO_SHALLOW, SHALLOW, ADAPTATION, decides=False)]


def c3(family: Family) -> list[Contrast]:
    """Predict that appended linear layers adapt better than none, and than themselves collapsed before adaptation."""
    if family.role != "maml":
        return []
    return [*_layers("C3", family), *_collapsed("C3", family)]


def c4(family: Family) -> list[Contrast]:
    """Predict that linear KFO on one block adapts better than none; beside it, other transforms and a deeper network.

    Of a family of transforms alone, all is beside it.
    """
    if family.role not in ("maml", "transforms"):
        return []
    kfo = CellValue(1, optimizer=OPTIMIZER)
    rows = []
    for value in sorted(_transforms(family), key=lambda value: value != kfo):
        decides = value == kfo and family.role == "maml"
        rows += _better("C4", family, value, SHALLOW, ADAPTATION, decides=decides)
    return [*rows, *_better("C4", family, kfo, EQUAL_TO_KFO, ADAPTATION, decides=False)]


def c5(family: Family) -> list[Contrast]:
    """Predict that the advantage of KFO is smaller at depth 4 than at depth 2; the depths were fixed beforehand."""
    return _shrinks("C5", family, C5_DEPTHS) if family.role == "maml" else []


def c6(family: Family) -> list[Contrast]:
    """Predict under ANIL what C2 to C5 do under MAML: depth, appended layers, KFO, and its advantage over depth.

    Plans of before the control of appended layers under ANIL have no prediction about it.
    """
    if family.role != "anil":
        return []
    return [
        *_depths("C6", family),
        *_layers("C6", family),
        *_collapsed("C6", family),
        *_better("C6", family, CellValue(1, optimizer=OPTIMIZER), SHALLOW, ADAPTATION),
        *(_shrinks("C6", family, C5_DEPTHS) or _shrinks("C6", family, (1, C5_DEPTHS[1]))),
    ]


def c7(family: Family) -> list[Contrast]:
    """Predict that two linear layers learn an operator nearer to the best one than one does; beside it, transforms."""
    if family.role != "linear-regression":
        return []
    deeper = CellValue(C1_DEPTHS[family.role])
    rows = _nearer(family, deeper)
    for value in _transforms(family):
        rows += _nearer(family, value, decides=False)
    return rows


def _nearer(family: Family, value: CellValue, *, decides: bool = True) -> list[Contrast]:
    if not {value, SHALLOW} <= set(family.values):
        return []
    words = f"the operator of {value.key} nearer to the best one than that of {SHALLOW.key}"
    terms = better(value.key, SHALLOW.key, OPERATOR)
    return [_contrast("C7", family, OPERATOR, words, terms, MARGINS[OPERATOR], decides=decides)]


def _transforms(family: Family) -> list[CellValue]:
    """Return the values with a transform on the shallow model."""
    return [value for value in family.values if value == CellValue(1, optimizer=value.optimizer) != SHALLOW]


def _stacks(family: Family) -> list[CellValue]:
    """Return the values with linear layers appended to the shallow model, and nothing else."""
    return [value for value in family.values if value == CellValue(1, value.layers) != SHALLOW]


def _depths(claim: str, family: Family) -> list[Contrast]:
    deeper = [value for value in family.values if value == CellValue(value.depth) != SHALLOW]
    return list(chain.from_iterable(_better(claim, family, value, SHALLOW, ADAPTATION) for value in deeper))


def _layers(claim: str, family: Family) -> list[Contrast]:
    return list(chain.from_iterable(_better(claim, family, value, SHALLOW, ADAPTATION) for value in _stacks(family)))


def _collapsed(claim: str, family: Family) -> list[Contrast]:
    """Predict that appended layers adapt better than themselves collapsed into one before adaptation."""
    return [
        _contrast(
            claim,
            family,
            measure,
            f"{value.key} better than the same layers collapsed into one before adaptation",
            better(value.key, value.key + COLLAPSED, measure),
            MARGINS[measure],
        )
        for value in _stacks(family)
        for measure in ADAPTATION
    ]


def _shrinks(claim: str, family: Family, depths: tuple[int, int]) -> list[Contrast]:
    """Predict that the advantage of KFO over none is smaller at the second depth than at the first."""
    grid = [(CellValue(depth, optimizer=OPTIMIZER), CellValue(depth)) for depth in depths]
    if not set(chain.from_iterable(grid)) <= set(family.values):
        return []
    shallow, deep = ((kfo.key, plain.key) for kfo, plain in grid)
    words = f"the advantage of {OPTIMIZER} larger at depth {depths[0]} than at depth {depths[1]}"
    return [
        _contrast(claim, family, measure, words, advantage_shrinks(shallow, deep, measure), MARGINS_OF_TWO[measure])
        for measure in ADAPTATION
    ]


def _better(
    claim: str,
    family: Family,
    a: CellValue,
    b: CellValue,
    measures: Sequence[str],
    *,
    margin: float | None = None,
    decides: bool = True,
) -> list[Contrast]:
    """Predict that value `a` adapts better than `b`, on each measure; nothing where the family lacks one of them."""
    if not {a, b} <= set(family.values):
        return []
    words = f"{a.key} better than {b.key}"
    return [
        _contrast(
            claim,
            family,
            measure,
            words,
            better(a.key, b.key, measure),
            MARGINS[measure] if margin is None else margin,
            decides=decides,
        )
        for measure in measures
    ]


def _contrast(
    claim: str,
    family: Family,
    measure: str,
    words: str,
    terms: tuple[tuple[str, float], ...],
    margin: float,
    *,
    decides: bool = True,
) -> Contrast:
    key = f"{claim}/{family.key}/{words}/{measure}"
    return Contrast(key, claim, family.key, measure, words, terms, margin, decides)
