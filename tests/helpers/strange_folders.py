"""A folder of files that are named as modules of Python or of packages; each notes that it was run."""

from __future__ import annotations

from pathlib import Path

# The first that our own processes import.
NAMES = ("random", "pickle", "yaml", "signal", "typing", "__future__", "selectors", "multiprocessing", "torch", "rich")


def strange_folder(path: Path) -> Path:
    """Make the folder and return the file that lists what was run."""
    path.mkdir()
    log = path.parent / "strange.log"
    for name in NAMES:
        code = f"with open({str(log)!r}, 'a') as stream: stream.write('{name} ')\n"
        (path / f"{name}.py").write_text(code, encoding="utf-8")
    return log
