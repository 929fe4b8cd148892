"""The findings of `mamlcli doctor` as a table that fits 80 columns, and what to do about them."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mamlcli.diagnosis import BROKEN, LACKING, Finding, broken
from mamlcli.tables import plain_table

_STYLES = {BROKEN: "red", LACKING: "yellow"}


def diagnosis_parts(findings: list[Finding]) -> list[RenderableType]:
    """Return the table of findings, what mends those that are not well, and the verdict."""
    parts: list[RenderableType] = [_table(findings)]
    for status, title in ((BROKEN, "Broken"), (LACKING, "Not here, and not needed by the bare commands")):
        found = [finding for finding in findings if finding.status == status]
        if found:
            parts.append(_remedies(title, found))
    if not broken(findings):
        parts.append(Text("All that the bare commands need is here."))
    return parts


def _table(findings: list[Finding]) -> Table:
    table = plain_table()
    table.add_column("what", no_wrap=True)
    table.add_column("is", no_wrap=True)
    table.add_column("found", overflow="fold")
    group = findings[0].group if findings else ""
    for finding in findings:
        if finding.group != group:
            table.add_section()
            group = finding.group
        table.add_row(finding.name, Text(finding.status, style=_STYLES.get(finding.status, "")), Text(finding.found))
    return table


def _remedies(title: str, findings: list[Finding]) -> Table:
    table = plain_table(title)
    table.add_column("what", no_wrap=True)
    table.add_column("what does not work", overflow="fold")
    table.add_column("what mends it", overflow="fold")
    for finding in findings:
        table.add_row(finding.name, Text(finding.effect or ""), Text(finding.remedy or ""))
    return table
