"""Profiles of cluster.yaml: which one is taken, what is refused, and how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mamlcli
from mamlcli.common.errors import MamlError
from mamlcli.studies.where.profiles import Profile, profile_named, seconds_of, user_file

GPU = """\
gpu:
  partition: gpu
  account: 0123
  time: 8:00:00
  cpus: 4
  memory: 16G
  gres: gpu:1
  max_jobs: 4
  interface: ib0
  options: [--constraint=a100]
  prologue:
    - module load python/3.11
    - source ~/venvs/mamlcli/bin/activate
"""


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """The current folder, and the user's folder of settings, in which there is nothing."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    user_file().parent.mkdir(parents=True)
    return tmp_path / "here" / "cluster.yaml"


def refused(text: str, folders) -> list[str]:
    folders.write_text(text)
    with pytest.raises(MamlError) as caught:
        profile_named(None)
    return str(caught.value).splitlines()


def test_a_profile_says_what_a_job_asks_for(folders):
    folders.write_text(GPU)
    profile = profile_named("gpu")
    assert (profile.partition, profile.account, profile.time) == ("gpu", "0123", "8:00:00")
    assert (profile.cpus, profile.memory, profile.gres, profile.max_jobs) == (4, "16G", "gpu:1", 4)
    assert (profile.interface, profile.options) == ("ib0", ["--constraint=a100"])
    assert profile.prologue == ["module load python/3.11", "source ~/venvs/mamlcli/bin/activate"]


def test_without_a_name_it_is_the_default_or_the_only_one_or_the_keys_defaults(folders):
    assert profile_named(None) == Profile()
    folders.write_text(GPU)
    assert profile_named(None).partition == "gpu"
    folders.write_text(f"{GPU}default:\n  partition: main\n")
    assert profile_named(None).partition == "main"


def test_profiles_of_the_current_folder_go_before_the_users_own(folders):
    user_file().write_text("gpu:\n  partition: old\nlong:\n  qos: long\n")
    folders.write_text(GPU)
    assert profile_named("gpu").partition == "gpu"
    assert profile_named("long").qos == "long"


def test_a_profile_that_is_not_there_is_refused_with_the_nearest_and_the_file(folders):
    folders.write_text(GPU)
    with pytest.raises(MamlError, match=r"--on slurm:gpus: expected one of the profiles gpu, got 'gpus'.*cluster.yaml"):
        profile_named("gpus")
    with pytest.raises(MamlError, match="Did you mean 'gpu'"):
        profile_named("gpus")
    folders.unlink()
    with pytest.raises(MamlError, match="There is no such file"):
        profile_named("gpus")


def test_every_problem_of_a_file_is_told_with_its_line_and_the_nearest_key(folders):
    text = "gpu:\n  partitoin: gpu\n  cpus: 0\n  time: 2 hours\n  memory: 16\n  prologue: conda\nb:\n  time: 4\n"
    joined = "\n".join(refused(text, folders))
    assert "cluster.yaml:2: gpu.partitoin: expected a known key, got 'partitoin'. Did you mean 'partition'?" in joined
    assert "cluster.yaml:3: gpu.cpus: expected an integer >= 1, got 0." in joined
    assert "cluster.yaml:4: gpu.time: expected text without spaces, got '2 hours'." in joined
    assert "cluster.yaml:5: gpu.memory: expected a number with K, M, G or T, such as 4G, got '16'." in joined
    assert "cluster.yaml:6: gpu.prologue: expected a list, got 'conda'." in joined
    assert "cluster.yaml:8: b.time: expected a time of at least 5 minutes" in joined


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partition: gpu\n", "cluster.yaml:1: partition: expected keys and values, got 'gpu'. Write it below the name"),
        ("", "cluster.yaml: expected profiles, each a name with keys below it, got an empty file."),
        ("a: [\n", "expected YAML, got a syntax error"),
        ("a:\n  options: [--mem=4G]\n", "expected options of sbatch that are no keys, such as memory, got"),
        ("a:\n  options: [gpu]\n", "expected options of sbatch, such as --constraint=a100, got 'gpu'."),
        ('a:\n  prologue: ["one\\ntwo"]\n', "a.prologue: expected one line of text, got"),
        ("a b:\n  cpus: 1\n", "cluster.yaml:1: a b: expected a name of letters, digits"),
    ],
)
def test_what_is_no_profile_is_refused_in_words(text, words, folders):
    assert any(words in line for line in refused(text, folders))


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("45", 2700),
        ("45:30", 2730),
        ("8:00:00", 28800),
        ("2-12", 216000),
        ("1-00:30", 88200),
        ("1-00:30:05", 88205),
    ],
)
def test_times_are_read_as_slurm_reads_them(time, seconds):
    assert seconds_of(time) == seconds


def test_the_documentation_has_every_key_with_its_default():
    text = (Path(mamlcli.__file__).parents[1] / "docs" / "cluster.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert list(rows) == list(Profile.model_fields)
    for name, field in Profile.model_fields.items():
        assert field.default is None or rows[name] == str(field.default), name


def test_the_profiles_of_the_documentation_are_valid(folders):
    text = (Path(mamlcli.__file__).parents[1] / "docs" / "cluster.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    folders.write_text(example)
    assert (profile_named(None).partition, profile_named("gpu").gres) == ("cpu", "gpu:1")
