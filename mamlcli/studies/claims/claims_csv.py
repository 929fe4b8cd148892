"""claims.csv has one line for each prediction of a reproduction, with its outcome and every seed's difference."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from mamlcli.studies.claims.predictions import ClaimResult, Row, Study
from mamlcli.studies.claims.reproduction import Reproduction

COLUMNS = (
    "claim",
    "claim_verdict",
    "study",
    "measure",
    "words",
    "decides",
    "verdict",
    "mean",
    "low",
    "high",
    "level",
    "margin",
    "p_holds",
    "p_fails",
    "p_no_effect",
    "size",
    "look",
    "num_looks",
    "num_seeds",
    "all_seeds_num",
    "all_seeds_mean",
    "all_seeds_low",
    "all_seeds_high",
    "all_seeds_level",
    "seeds",
    "differences",
)


def claims_csv(done: Reproduction) -> str:
    """Return the content of claims.csv; numbers have all their digits, seeds and differences are joined by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    studies = {study.key: study for study in done.studies}
    writer.writerows(_line(claim, row, studies) for claim in done.claims for row in claim.rows)
    return text.getvalue()


def _line(claim: ClaimResult, row: Row, studies: Mapping[str, Study]) -> dict[str, object]:
    contrast, decision = row.contrast, row.decision
    interval, every = decision.interval, decision.of_all_seeds
    differences = contrast.differences(studies[contrast.study].scores)
    return {
        "claim": claim.id,
        "claim_verdict": claim.verdict,
        "study": contrast.study,
        "measure": contrast.measure,
        "words": contrast.words,
        "decides": "yes" if contrast.decides else "no",
        "verdict": decision.verdict,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "level": interval.level,
        "margin": contrast.margin,
        "p_holds": decision.p_holds,
        "p_fails": decision.p_fails,
        "p_no_effect": decision.p_no_effect,
        "size": decision.size,
        "look": decision.look,
        "num_looks": decision.num_looks,
        "num_seeds": interval.num_seeds,
        "all_seeds_num": every.num_seeds,
        "all_seeds_mean": every.mean,
        "all_seeds_low": every.low,
        "all_seeds_high": every.high,
        "all_seeds_level": every.level,
        "seeds": " ".join(map(str, differences)),
        "differences": " ".join(map(repr, differences.values())),
    }
