"""The report of `mamlcli layers` as tables."""

import io
from dataclasses import replace

from rich.console import Console

from mamlcli.studies.layers.report import layers_report
from mamlcli.studies.layers.tables import layer_parts


def shown(report, width):
    """Return the lines that a terminal of this width shows."""
    console = Console(width=width, file=io.StringIO())
    for part in layer_parts(report):
        console.print(part)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_nothing_folds_at_80_columns(deep, conv):
    for run in (deep, conv):
        report = layers_report(run, num_tasks=4)
        report = replace(report, collapse=None)  # prose, which folds anywhere
        assert shown(report, 80) == shown(report, 200)
