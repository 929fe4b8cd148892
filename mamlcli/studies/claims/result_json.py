"""A decided claim as result.json holds it; result.schema.json beside this file says what each entry means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from mamlcli.studies.claims.decisions import Decision, Interval
from mamlcli.studies.claims.predictions import ClaimResult, Row
from mamlcli.studies.claims.rest import Rest
from mamlcli.studies.sweeps.result import StudyResult

SCHEMA_FILE = Path(__file__).with_name("result.schema.json")


def claim_to_json(claim: ClaimResult, *, first_seed: int, rest: Mapping[str, Rest]) -> dict[str, object]:
    """Return a claim with its verdict and all that it rests on.

    Args:
        claim: decided.
        first_seed: of the plan; seeds count up from it without a gap.
        rest: what would decide each open prediction, by its key.
    """
    evidence = {
        "rule": claim.rule,
        "predictions": [_row_to_json(row, first_seed, rest.get(row.contrast.key)) for row in claim.rows],
        "checks": [{**asdict(check), "holds": check.holds} for check in claim.checks],
        "missing": list(claim.missing),
        "notes": [*claim.notes, *claim.beside_notes],
    }
    found = {"id": claim.id, "statement": claim.statement, "verdict": claim.verdict}
    return {**found, "failed_cells": [cell.words for cell in claim.failed], "evidence": evidence}


def _row_to_json(row: Row, first_seed: int, rest: Rest | None) -> dict[str, object]:
    decision, contrast = row.decision, row.contrast
    return {
        "key": contrast.key,
        "name": decision.prediction.name,
        "study": contrast.study,
        "measure": contrast.measure,
        "decides": contrast.decides,
        "margin": contrast.margin,
        "differences": decision.prediction.differences.tolist(),
        "seeds": [first_seed + index for index in range(len(decision.prediction.differences))],
        **_interval_to_json(decision.interval),
        **_decision_to_json(decision),
        "of_all_seeds": _interval_to_json(decision.of_all_seeds),
        "seeds_needed": None if rest is None else rest.seeds,
        "hours_needed": None if rest is None else rest.hours,
        "needs_new_plan": rest is not None and rest.is_new_plan,
    }


def _decision_to_json(decision: Decision) -> dict[str, object]:
    names = ("verdict", "look", "num_looks", "p_holds", "p_fails", "p_no_effect", "size")
    return {name: getattr(decision, name) for name in names}


def _interval_to_json(interval: Interval) -> dict[str, object]:
    return {
        "num_seeds": interval.num_seeds,
        "mean": interval.mean,
        "interval": [interval.low, interval.high],
        "level": interval.level,
    }


def study_to_json(result: StudyResult) -> dict[str, object]:
    """Return a study's result with its paths relative to the reproduction's folder, which may be moved."""
    folder = Path(result.directory).parent

    def relative(path: str) -> str:
        return Path(path).relative_to(folder).as_posix()

    cells = tuple(replace(cell, run_dirs=tuple(map(relative, cell.run_dirs))) for cell in result.cells)
    return replace(result, directory=relative(result.directory), cells=cells).to_json()


def result_schema() -> dict[str, object]:
    """Return the JSON Schema of result.json."""
    schema: dict[str, object] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema
