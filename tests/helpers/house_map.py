"""The map of the house in CONTRIBUTING: a line for each folder and file, taken from their first lines.

python -m tests.helpers.house_map CONTRIBUTING.md      # writes it between its two marks
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

FOLDERS = ("common", "recipe", "runs", "tasks", "engine", "training", "deploy", "bench", "studies", "cli")
BEGIN, END = "<!-- the map: make docs -->", "<!-- end of the map -->"


def first_line(path: Path) -> str:
    """Return the first sentence or line of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text, f"{path} has no docstring"
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", paragraph)[0]


def house_map(package: Path) -> str:
    """Return the map as Markdown: for each folder a heading with what is in it, and its files."""
    lines = []
    for name in FOLDERS:
        lines += [f"**`{name}/`** {first_line(package / name / '__init__.py')}", "", "| file | |", "|---|---|"]
        below = sorted(path.parent for path in (package / name).rglob("__init__.py"))
        for folder in below:
            prefix = "" if folder.name == name else f"{folder.relative_to(package / name)}/"
            if prefix:
                lines.append(f"| **`{prefix}`** | {first_line(folder / '__init__.py')} |")
            files = (path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py")
            lines += [f"| `{prefix}{path.stem}` | {first_line(path).replace('|', chr(92) + '|')} |" for path in files]
        lines.append("")
    alone = ("api.py", "__init__.py", "__main__.py")
    lines += ["**On their own**", "", "| file | |", "|---|---|"]
    lines += [f"| `{name}` | {first_line(package / name)} |" for name in alone]
    return "\n".join(lines)


def with_map(text: str, package: Path) -> str:
    """Return a document with the map between its marks brought up to date."""
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:start]}\n{house_map(package)}\n{text[end:]}"


def main(path: Path) -> None:
    """Bring the map in a document up to date."""
    package = Path(__file__).parents[2] / "mamlcli"
    path.write_text(with_map(path.read_text(encoding="utf-8"), package), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
