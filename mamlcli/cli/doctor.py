"""`mamlcli doctor` shows what this installation has, what would not work, and what mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mamlcli.cli import complete, console
from mamlcli.cli.diagnosis.checks import diagnose
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, Finding, broken, diagnosis_to_json
from mamlcli.cli.options import JsonOption
from mamlcli.common.errors import MamlError

PlaceOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="Look at a place where cells are trained, and at nothing else: gpus[:N], slurm[:PROFILE] or "
        "tcp://HOST:PORT. It has to see the current folder.",
        autocompletion=complete.one_of("gpus", "slurm", "tcp://"),
        show_default=False,
    ),
]


def doctor(on: PlaceOption = None, as_json: JsonOption = False) -> None:
    """Look at this installation: versions, device, data, disk; what would not work, and what mends it.

    The exit code is 1 if something is broken that the bare commands need, such as a package that cannot be imported
    or a folder that cannot be written; data sets and extras that are not here are listed, and are no error.

    Examples:

      mamlcli doctor

      mamlcli doctor --json

      mamlcli doctor --on tcp://10.0.0.1:8786
    """
    if on is not None:
        from mamlcli.studies.where.places import look_at

        console.show(
            look_at(on, Path.cwd(), console.note), lambda words: [Text(words)], to_json=lambda words: {"found": words}
        )
        return
    findings = diagnose()
    console.show(findings, diagnosis_parts, to_json=diagnosis_to_json)
    if bad := broken(findings):
        raise MamlError(
            "this installation",
            expected="all that the bare commands need",
            got=f"{', '.join(finding.name for finding in bad)} broken",
            next_step=bad[0].remedy,
        )


_STYLES = {BROKEN: "red", LACKING: "yellow"}


def diagnosis_parts(findings: list[Finding]) -> list[RenderableType]:
    """Return the table of findings, what mends those that are not well, and the verdict."""
    parts: list[RenderableType] = [_table(findings)]
    for status, title in ((BROKEN, "Broken"), (LACKING, "Not here, and not needed by the bare commands")):
        unwell = [finding for finding in findings if finding.status == status]
        if unwell:
            parts.append(_remedies(title, unwell))
    if not broken(findings):
        parts.append(Text("All that the bare commands need is here."))
    return parts


def _table(findings: list[Finding]) -> Table:
    from mamlcli.common.tables import plain_table

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
    from mamlcli.common.tables import plain_table

    table = plain_table(title)
    table.add_column("what", no_wrap=True)
    table.add_column("what does not work", overflow="fold")
    table.add_column("what mends it", overflow="fold")
    for finding in findings:
        table.add_row(finding.name, Text(finding.effect or ""), Text(finding.remedy or ""))
    return table
