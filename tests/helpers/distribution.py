"""Check the wheel and the sdist in a folder: what is in them, and that the wheel runs in a fresh environment.

python -m tests.helpers.distribution dist
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import mamlcli

ROOT = Path(mamlcli.__file__).parents[1]


def files_to_ship(root: Path = ROOT) -> set[str]:
    """Return the names in a wheel of all that belongs to the package: every file of it, and the recipes."""
    package = [path for path in (root / "mamlcli").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    recipes = [path for path in (root / "recipes").iterdir() if path.is_file()]
    names = {path.relative_to(root).as_posix() for path in package}
    return names | {f"mamlcli/recipes/{path.name}" for path in recipes}


def files_of(wheel: Path) -> set[str]:
    """Return the files of a wheel but for its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def metadata_of(wheel: Path) -> Message:
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def differences(wheel: Path) -> list[str]:
    """Return a line for every file that the wheel lacks, and for every one that it should not have."""
    shipped, wanted = files_of(wheel), files_to_ship()
    return [
        *(f"{wheel.name}: lacks {name}" for name in sorted(wanted - shipped)),
        *(f"{wheel.name}: has {name}, which is no file of the package" for name in sorted(shipped - wanted)),
    ]


def version_when_installed(wheel: Path, folder: Path) -> str:
    """Install a wheel, without what it needs, into a fresh environment; return what its command says of its version.

    The packages that it needs are those of this Python, so that nothing is downloaded.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel.resolve())]
    # pip takes a folder of built metadata, in the current folder or PYTHONPATH, for an installation.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(pip, cwd=folder, env=environment, check=True)
    # After the environment's own packages, so that no other mamlcli is taken.
    places = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    next(folder.glob("lib/python*/site-packages")).joinpath("needs.pth").write_text("\n".join(places))
    command = [str(folder / "bin" / "mamlcli"), "--version"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(folder: Path) -> None:
    """Check the one wheel and the one sdist of a folder; end with a line for each thing that is wrong."""
    wheels, archives = list(folder.glob("*.whl")), list(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(archives) != 1:
        sys.exit(f"{folder}: expected one wheel and one sdist, got {len(wheels)} and {len(archives)}. Run: make dist")
    wrong = differences(wheels[0])
    with tarfile.open(archives[0]) as archive, tempfile.TemporaryDirectory() as fresh:
        names = {name.partition("/")[2] for name in archive.getnames()}
        wrong += [
            f"{archives[0].name}: lacks {name}" for name in ("LICENSE", "README.md", "setup.cfg") if name not in names
        ]
        said = version_when_installed(wheels[0], Path(fresh) / "venv")
    if mamlcli.__version__ not in said.split():
        wrong.append(f"{wheels[0].name}: mamlcli --version says {said!r}, expected {mamlcli.__version__}")
    if wrong:
        sys.exit("\n".join(wrong))
    sys.stdout.write(
        f"{wheels[0].name}: {len(files_of(wheels[0]))} files, as in the tree; installed by itself, it says: {said}\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
