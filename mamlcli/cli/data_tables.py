"""Packs and what is wrong with them become tables and JSON here, for `mamlcli data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from mamlcli.common.commands import command
from mamlcli.common.errors import DataError
from mamlcli.common.files import cache_dir, data_dir
from mamlcli.tasks.images.checks import Finding
from mamlcli.tasks.images.packs import PackHeader, find_pack, read_header
from mamlcli.tasks.images.sources import SOURCES, SourceFacts


@dataclass(frozen=True)
class ListedPack:
    """A source that is known, or a pack that is here, or both.

    Attributes:
        name: of the source or of the file.
        path: the pack; None where it is not here.
        facts: what is known of the source; None of a pack of the user's own.
        header: what the pack tells; None where there is none, or it is damaged.
        problem: what is wrong with the pack; None where nothing is.
    """

    name: str
    path: Path | None
    facts: SourceFacts | None = None
    header: PackHeader | None = None
    problem: str | None = None

    @property
    def licence(self) -> str | None:
        """The licence that the pack itself tells, else the one that is known of its source."""
        in_pack = self.header.source.licence if self.header else None
        return in_pack or (self.facts.licence if self.facts else None)

    def to_json(self) -> dict[str, object]:
        """Return what is known of it as primitives; keys that do not apply are left out."""
        row: dict[str, object] = {}
        if self.facts:
            row |= {"what": self.facts.what, "licence": self.facts.licence, "get": self.facts.get}
        row |= {"name": self.name, "path": str(self.path) if self.path else None}
        if self.problem is not None:
            row["problem"] = self.problem
        if self.header:
            keys = ("num_images", "num_classes", "height", "width", "channels")
            row |= {key: getattr(self.header, key) for key in keys}
        return row | ({"licence": self.licence} if self.licence else {})


def listed_packs() -> list[ListedPack]:
    """Return every source that is known, and every pack that is here under a name of its own."""
    paths: dict[str, Path] = {}
    for folder in dict.fromkeys((data_dir(), cache_dir())):
        for path in sorted(folder.glob("*.npz")):
            # Drawn glyphs are kept there too, to save time; they are no import of the user's.
            if path.stem not in SOURCES and not path.name.startswith((".", "glyphs-v")):
                paths.setdefault(path.stem, path)
    sources = [_listed(name, find_pack(name), facts) for name, facts in SOURCES.items()]
    return sources + [_listed(name, path, None) for name, path in paths.items()]


def _listed(name: str, path: Path | None, facts: SourceFacts | None) -> ListedPack:
    if path is None:
        return ListedPack(name, None, facts)
    try:
        return ListedPack(name, path, facts, read_header(path))
    except DataError as error:
        return ListedPack(name, path, facts, problem=str(error))


def packs_to_json(packs: Sequence[ListedPack]) -> list[dict[str, object]]:
    """Return what `mamlcli data ls --json` prints."""
    return [pack.to_json() for pack in packs]


def pack_parts(packs: Sequence[ListedPack]) -> list[Table]:
    """Return the table of `mamlcli data ls`."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("source", min_width=17, overflow="fold")
    for title in ("images", "classes", "size"):
        table.add_column(title, justify="right")
    table.add_column("licence", max_width=14)
    table.add_column("where it is, or how to get it", overflow="fold")
    for pack in packs:
        cells = (pack.name, *_size_cells(pack.header), pack.licence or "", _place(pack))
        table.add_row(*cells)
    return [table]


def _size_cells(header: PackHeader | None) -> tuple[str, str, str]:
    if header is None:
        return "-", "-", "-"
    shape = f"{header.height}x{header.width}x{header.channels}"
    return str(header.num_images), str(header.num_classes), shape


def _place(pack: ListedPack) -> str:
    if pack.problem is not None:
        return f"damaged; see: {command('data', 'check', pack.name)}"
    return str(pack.path) if pack.path else pack.facts.get if pack.facts else ""


@dataclass(frozen=True)
class CheckedPack:
    """What `mamlcli data check` finds.

    Attributes:
        pack: its name in messages.
        findings: what is wrong with it, and what is worth knowing.
    """

    pack: str
    findings: Sequence[Finding]

    @property
    def num_errors(self) -> int:
        """The number of findings that make commands fail."""
        return sum(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """Return the findings as primitives."""
        return {"pack": self.pack, "findings": [finding.to_json() for finding in self.findings]}


def finding_parts(checked: CheckedPack) -> list[Table]:
    """Return the table of `mamlcli data check`."""
    styles = {"error": "red", "warning": "yellow", "note": ""}
    table = Table("severity", "check", "what was found", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for finding in checked.findings:
        severity = Text(finding.severity, style=styles[finding.severity])
        table.add_row(severity, finding.check, finding.message)
    return [table]
