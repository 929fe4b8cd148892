"""These checks tell whether Python and the packages that mamlcli needs are here, in versions that work."""

from __future__ import annotations

import configparser
import importlib.util
import platform
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import mamlcli
from mamlcli.cli.diagnosis.findings import BROKEN, LACKING, OK, Finding
from mamlcli.common.words import TORCH_PAIR, first_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement


# The folder of the package; setup.cfg lies beside it in a checkout.
_PACKAGE = Path(__file__).parents[2]


EXTRAS = {
    "bench": "bench leaves these peers out",
    "bench-jax": "bench leaves this peer out",
    "tensorboard": "logging=tensorboard does not work",
    "mlflow": "logging=mlflow does not work",
    "cluster": "--on slurm and --on tcp://HOST:PORT do not work",
}


# Where the name to import is not that of the package.
_MODULES = {
    "pyyaml": "yaml",
    "pillow": "PIL",
    "markdown-it-py": "markdown_it",
    "mlflow-skinny": "mlflow",
    "dask-jobqueue": "dask_jobqueue",
}


# Packages without which the bare commands work: the status then, what does not work, and the remedy.
_WITHOUT = {"torchvision": (LACKING, "mamlcli data fetch does not work", TORCH_PAIR)}


_SMALLEST_PYTHON = (3, 10)


# Packages ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """A package that mamlcli, or one of its extras, needs.

    Attributes:
        name: in lower case.
        smallest: the oldest version that will do.
        extra: which extra needs it; None where mamlcli itself does.
    """

    name: str
    smallest: str
    extra: str | None


def requirements() -> list[Needed]:
    """Return the packages that mamlcli needs, from the setup.cfg of a checkout or from the installed metadata."""
    from packaging.requirements import Requirement  # here, so that doctor can tell that it is missing

    config = configparser.ConfigParser()
    config.read(_PACKAGE.parent / "setup.cfg")
    if config.get("metadata", "name", fallback="") == "mamlcli":  # a checkout; what was installed may be older
        lists: dict[str | None, str] = {None: config["options"]["install_requires"]}
        lists |= {extra: config["options.extras_require"][extra] for extra in EXTRAS}
        return [
            _needed(Requirement(line), extra) for extra, lines in lists.items() for line in lines.split("\n") if line
        ]
    listed = [Requirement(line) for line in metadata.requires("mamlcli") or []]
    return [_needed(item, extra) for extra in (None, *EXTRAS) for item in listed if _is_brought_by(item, extra)]


def _is_brought_by(requirement: Requirement, extra: str | None) -> bool:
    """Return whether an extra, or for None mamlcli by itself, brings a package to this machine."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return extra is None
    return extra is not None and requirement.marker.evaluate({"extra": extra})


def _needed(requirement: Requirement, extra: str | None) -> Needed:
    smallest = next(bound.version for bound in requirement.specifier if bound.operator in (">=", "=="))
    return Needed(requirement.name.lower(), smallest, extra)


def is_at_least(version: str, smallest: str) -> bool:
    """Return whether a version such as 2.6.0+cpu is not older than another; a pre-release counts as its release."""
    from packaging.version import Version

    return Version(Version(version).base_version) >= Version(smallest)


def python_finding() -> Iterator[Finding]:
    """Look at the versions of mamlcli and Python."""
    is_new = sys.version_info >= _SMALLEST_PYTHON
    need = ".".join(map(str, _SMALLEST_PYTHON))
    yield Finding("packages", "mamlcli", OK, f"{mamlcli.__version__}, in {_PACKAGE}")
    yield Finding(
        "packages",
        "python",
        OK if is_new else BROKEN,
        f"{platform.python_version()}, {sys.executable}",
        None if is_new else f"mamlcli needs {need} or newer",
        None if is_new else f"Install Python {need} or newer",
        {"version": platform.python_version()},
    )


def package_findings() -> Iterator[Finding]:
    """Look at every package that mamlcli itself needs."""
    for needed in requirements():
        if needed.extra is None:
            yield package_finding(needed.name, needed.smallest)


def package_finding(name: str, smallest: str) -> Finding:
    """Look at one package: whether it is installed, can be imported, and is new enough."""
    need = f"'{name}>={smallest}'"
    bad, effect, again = _WITHOUT.get(name, (BROKEN, "bare commands fail", f"pip install --force-reinstall {need}"))
    remedy = again if name in _WITHOUT else f"pip install {need}"
    try:
        version = metadata.version(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a package's own; they are not about the installation
            importlib.import_module(_MODULES.get(name, name))
    except metadata.PackageNotFoundError:
        return Finding("packages", name, bad, "not installed", effect, remedy)
    except Exception as error:
        words = f"{version}, which cannot be imported ({type(error).__name__}: {first_line(error)})"
        return Finding("packages", name, bad, words, effect, again, {"version": version})
    if not is_at_least(version, smallest):
        words = f"{version}, older than {smallest}"
        effect = effect if name in _WITHOUT else "commands may fail"
        return Finding("packages", name, bad, words, effect, remedy, {"version": version})
    return Finding("packages", name, OK, version, details={"version": version})


def extras_findings() -> Iterator[Finding]:
    """Look at the packages of each extra; they are not needed by bare commands."""
    for extra, effect in EXTRAS.items():
        versions: dict[str, str | None] = {}
        for name in [needed.name for needed in requirements() if needed.extra == extra]:
            is_there = importlib.util.find_spec(_MODULES.get(name, name)) is not None
            versions[name] = _version(name) if is_there else None
        missing = [name for name, version in versions.items() if version is None]
        words = ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items())
        yield Finding(
            "extras",
            extra,
            LACKING if missing else OK,
            words,
            effect if missing else None,
            f"pip install 'mamlcli[{extra}]'" if missing else None,
            versions,
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"
