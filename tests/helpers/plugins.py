"""Packages that a test installs: the example, and ones of one module."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

import pytest

import mamlcli
from mamlcli.common.plugins import installed
from mamlcli.recipe.plugins import plugin_keys

EXAMPLE = Path(mamlcli.__file__).parents[1] / "examples" / "plugin"


def forget() -> None:
    """Forget which packages are installed, and their modules."""
    installed.cache_clear()
    plugin_keys.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mamlcli_example", "one_file", "other")]:
        del sys.modules[name]


def install(monkeypatch, folder: Path, code: str = "", *, package: str = "one_file", **points: str) -> None:
    """Put a package of one module onto sys.path.

    Args:
        monkeypatch: of the test.
        folder: an empty one.
        code: of the module, which has the name of the package.
        package: its name.
        points: the lines of each group of entry points, by the last word of the group.
    """
    info = folder / f"{package}-1.5.dist-info"
    info.mkdir(parents=True)
    (folder / f"{package}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    groups = "".join(f"[mamlcli.{group}]\n{lines}\n" for group, lines in points.items())
    (info / "entry_points.txt").write_text(groups)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget()


def install_example(monkeypatch, folder: Path) -> Path:
    """Install examples/plugin as pip would, from what its pyproject.toml says; return the folder of its metadata."""
    text = (EXAMPLE / "pyproject.toml").read_text()
    config = configparser.ConfigParser(allow_no_value=True)
    config.read_string("\n".join(line for line in text.splitlines() if "=" in line or line.startswith("[")))
    prefix = 'project.entry-points."mamlcli.'
    points = {
        section.removeprefix(prefix).rstrip('"'): "\n".join(
            f"{k} = {v.strip(chr(34))}" for k, v in config[section].items()
        )
        for section in config.sections()
        if section.startswith(prefix)
    }
    folder.mkdir()
    (folder / "mamlcli_example").symlink_to(EXAMPLE / "mamlcli_example")
    install(monkeypatch, folder, package="mamlcli_example_files", **points)
    return folder


ONE_FILE = '''
import mamlcli
from pydantic import Field


class Net(mamlcli.NetworkKeys):
    """One hidden layer."""

    code = "one_file:net"
    width: int = Field(8, ge=1, description="units")
    word: str = Field("no", description="a text")


def net(keys, input_shape, num_outputs):
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(1, keys.width), nn.Tanh(), nn.Linear(keys.width, num_outputs))


class Lines(mamlcli.TasksKeys):
    """Lines through the origin."""

    code = "one_file:Drawn"


class Drawn:
    def __init__(self, keys):
        self.keys = keys

    def sample(self, generators):
        import torch

        x = torch.stack([torch.randn(self.keys.shots + self.keys.queries, 1, generator=one) for one in generators])
        return x[:, : self.keys.shots], x[:, : self.keys.shots], x[:, self.keys.shots :], x[:, self.keys.shots :]


class Blobs(mamlcli.FewShotKeys):
    """Points around the centre of their class."""

    code = "one_file:blobs"


def blobs(keys):
    import torch

    labels = torch.arange(12).repeat_interleave(12)
    points = torch.randn(144, 4, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    return mamlcli.few_shot_tasks(points, labels)


class Half(mamlcli.TransformKeys):
    """Half of a gradient."""

    code = "one_file:Halved"


class Halved:
    def __init__(self, keys):
        pass

    def init(self, params, seed):
        return {}

    def apply(self, xi, gradients, step=0):
        return {name: gradient / 2 for name, gradient in gradients.items()}
'''

POINTS = {
    "networks": "net = one_file:Net",
    "tasks": "lines = one_file:Lines\nblobs = one_file:Blobs",
    "transforms": "half = one_file:Half",
}


@pytest.fixture(name="one_file")
def one_file_fixture(monkeypatch, tmp_path):
    """Install a package of one file with a network, two kinds of tasks and a transform."""
    install(monkeypatch, tmp_path / "site", ONE_FILE, **POINTS)
    yield tmp_path
    forget()
