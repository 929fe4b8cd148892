"""Pictures of adaptation curves that stand in for drawn ones, which take most of the time of a tiny run."""

from __future__ import annotations

import base64
from pathlib import Path

from mamlcli.common.files import atomic_write
from mamlcli.runs.report import RunReport

# Each is a picture of one dot.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


def undrawn_curve(report: RunReport, path: Path) -> list[Path]:
    """Write both files that `save_curve` writes, as it does."""
    paths = [path, path.with_suffix(".svg")]
    for target, content in zip(paths, (PNG, SVG), strict=True):
        atomic_write(target, content)
    return paths
