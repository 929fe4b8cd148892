"""A finding is one line of `mamlcli doctor`: what was looked at, how it stands, what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

# How a finding stands. "lacking": some commands or options do without, or do not work; "broken": bare commands fail.
OK, LACKING, BROKEN = "ok", "lacking", "broken"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: what it belongs to, such as "data".
        name: what was looked at.
        status: `OK`, `LACKING` or `BROKEN`.
        found: what is there, in words.
        effect: what does not work without; None where all does.
        remedy: the command, or the step, that mends it.
        details: numbers behind the words; sizes in bytes.
    """

    group: str
    name: str
    status: str
    found: str
    effect: str | None = None
    remedy: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def diagnosis_to_json(findings: list[Finding]) -> dict[str, object]:
    """Return findings in machine-readable form."""
    return {"ok": not broken(findings), "findings": [asdict(finding) for finding in findings]}


def broken(findings: list[Finding]) -> list[Finding]:
    """Return the findings that keep bare commands from working."""
    return [finding for finding in findings if finding.status == BROKEN]
