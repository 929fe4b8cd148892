"""What goes to others is complete: the wheel, its metadata, the container image, the citation."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import mamlcli
from tests.helpers.distribution import (
    ROOT,
    differences,
    files_of,
    files_to_ship,
    metadata_of,
    version_when_installed,
)

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
EXTRAS = set(CONFIG["options.extras_require"])
PYTHONS = [
    line.rsplit(" ", 1)[1] for line in CONFIG["metadata"]["classifiers"].split("\n") if re.search(r":: 3\.\d", line)
]


# The container image --------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each as its word and the rest of its line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


def arguments() -> dict[str, str]:
    return dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")


def copied() -> list[str]:
    """Return the sources of every COPY from this folder."""
    return [path for word, rest in instructions() if word == "COPY" for path in rest.split()[:-1]]


def let_through() -> set[str]:
    """Return what .dockerignore does not keep out: it keeps everything out, but for some names."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_an_image_gets_what_the_dockerfile_copies_and_nothing_else():
    assert copied()
    assert all((ROOT / path).exists() for path in copied())
    assert set(copied()) == let_through()


def test_the_image_has_a_python_that_the_package_is_for_and_extras_that_it_has():
    assert arguments()["PYTHON"] in PYTHONS
    assert set(arguments()["EXTRAS"].split(",")) <= EXTRAS


def test_the_image_runs_mamlcli_as_an_ordinary_user_with_its_data_in_a_volume():
    found = dict(instructions())
    assert found["ENTRYPOINT"] == '["mamlcli"]'
    assert found["USER"] not in ("root", "0")
    assert f"MAMLCLI_DATA={found['VOLUME']}" in found["ENV"].split()
    last = [word for word, _ in instructions()]
    assert last.index("USER") > max(
        index for index, word in enumerate(last) if word == "RUN"
    )  # what is installed is root's


@pytest.mark.parametrize(
    ("index", "extras", "asked"),
    [
        ("https://x/cpu", "tensorboard", ["--index-url", "https://x/cpu"]),
        ("", "bench,tensorboard", []),
        ("", "", []),
    ],
    ids=["cpu", "registry", "no-extras"],
)
def test_pip_is_asked_for_torch_and_mamlcli_as_the_arguments_say(index, extras, asked, tmp_path):
    """The RUN lines of the last stage, run by the shell with a pip that prints its arguments."""
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    pip.chmod(0o755)
    wheel = tmp_path / "mamlcli-1.0-py3-none-any.whl"
    wheel.touch()
    last = instructions()[max(index for index, (word, _) in enumerate(instructions()) if word == "FROM") :]
    lines = [re.sub(r"--mount=\S+", "", rest) for word, rest in last if word == "RUN" and "pip install" in rest]
    ran = []
    for line in lines:
        script = line.replace("/wheels/", f"{tmp_path}/")
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TORCH_INDEX": index, "EXTRAS": extras}
        done = subprocess.run(["/bin/sh", "-ec", script], env=environment, capture_output=True, text=True, check=True)
        ran.append(done.stdout.splitlines())
    needed = [line for line in CONFIG["options"]["install_requires"].split("\n") if line.startswith("torch")]
    assert ran[0] == ["install", "--no-cache-dir", *asked, *needed]
    assert ran[1] == ["install", "--no-cache-dir", f"{wheel}[{extras}]" if extras else str(wheel)]


# The wheel ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel that is built from the files of the image alone."""
    pytest.importorskip("setuptools", minversion="77", reason="setup.cfg names the licence as setuptools 77 reads it")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check", "--no-index"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel, tmp_path):
    assert not differences(wheel)
    assert {"mamlcli/py.typed", "mamlcli/recipes/sinusoid.yaml"} <= files_of(wheel)
    other = tmp_path / "other"
    shutil.copytree(ROOT / "recipes", other / "recipes")
    shutil.copytree(ROOT / "mamlcli" / "deploy", other / "mamlcli" / "deploy")
    assert "mamlcli/api.py" in files_of(wheel) - files_to_ship(other)  # the check can fail


def test_the_wheel_installs_by_itself_and_says_its_version(wheel, tmp_path):
    assert version_when_installed(wheel, tmp_path / "venv").split()[-1] == mamlcli.__version__


def test_the_metadata_say_what_the_package_is(wheel):
    metadata = metadata_of(wheel)
    assert metadata["Version"] == mamlcli.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Provides-Extra")) == EXTRAS
    classifiers = metadata.get_all("Classifier")
    for start in ("Environment :: Console", "Natural Language ::", "Operating System ::", "Typing :: Typed"):
        assert any(line.startswith(start) for line in classifiers), start
    assert not any(line.startswith("License ::") for line in classifiers)  # the expression says it; both are refused


def test_every_python_from_the_oldest_on_has_its_classifier():
    allowed = SpecifierSet(CONFIG["options"]["python_requires"])
    assert all(Version(python) in allowed for python in PYTHONS)
    minors = sorted(int(python.split(".")[1]) for python in PYTHONS)
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert Version(f"3.{minors[0] - 1}") not in allowed


def test_what_an_extra_brings_test_and_dev_bring_too():
    brought = {
        extra: {Requirement(line).name for line in lines.split("\n") if line}
        for extra, lines in CONFIG["options.extras_require"].items()
    }
    assert brought["bench"] | brought["tensorboard"] | brought["cluster"] <= brought["test"] <= brought["dev"]


# The citation ---------------------------------------------------------------------------------------------------------


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["version"] == mamlcli.__version__
    assert citation["license"] == CONFIG["metadata"]["license_expression"]
    assert citation["authors"] == [{"name": "mamlcli contributors"}]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Arnold", "Iqbal", "Sha"]
    assert (paper["year"], paper["url"]) == (2021, "https://arxiv.org/abs/1910.13603")
    assert paper["url"] in CONFIG["metadata"]["project_urls"]


# What docs/install.md says --------------------------------------------------------------------------------------------


def test_the_image_is_built_and_used_as_documented():
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    builds = [shlex.split(line) for line in text.splitlines() if line.startswith("docker build ")]
    given = [word.split("=", 1)[0] for line in builds for at, word in enumerate(line) if line[at - 1] == "--build-arg"]
    assert given
    assert set(given) <= set(arguments())
    assert all(extra in EXTRAS for line in re.findall(r"\.\[([a-z,]+)\]", text) for extra in line.split(","))
