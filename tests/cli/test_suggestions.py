"""Every kind of message that suggests a command, made for real with names that a shell would split or fill in."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from mamlcli.runs.models import shipped_models
from tests.helpers.image_files import noise
from tests.helpers.reproductions import Pool
from tests.helpers.running import TINY, TINY_IMAGES

RECIPE = "my exp's $HOME [b].yaml"
RUN = "runs/a b's $HOME [red]*"
SHORTER = {"train": "--dry-run", "adapt": "--tasks=2", "bench": "--repeats=1"}


def suggestions(text: str) -> list[list[str]]:
    """Return the words of the commands that a text suggests: what follows a colon, or stands in a line of its own."""
    found = re.findall(r"(?:: |^ {2})(mamlcli .*?)(?: {3}#.*)?$", text, re.MULTILINE)
    return [shlex.split(line)[1:] for line in found]


@pytest.fixture
def accepted(cli):
    """Run a command, then all that its messages suggest, shortened: each ends well. Return the suggestions."""

    def run(*words: object) -> list[list[str]]:
        ended = cli(*words)
        assert ended.code in (0, 1), ended.err
        found = suggestions(ended.err)
        assert found, ended.err
        for suggested in found:
            is_short = "--resume" in suggested or "--support" in suggested
            shorter = [] if is_short else [SHORTER[suggested[0]]] if suggested[0] in SHORTER else []
            again = cli(*suggested, *shorter)
            assert again.code == 0, (suggested, again.err)
        return found

    return run


@pytest.fixture
def trained(cli):
    """A finished run of a recipe of one's own, both with names of the worst kind."""
    assert cli("recipes", "cp", "sinusoid", RECIPE).code == 0
    assert cli("train", RECIPE, *TINY, "--run-dir", RUN).code == 0


def test_a_copied_recipe(accepted):
    assert accepted("recipes", "cp", "sinusoid", RECIPE) == [["train", RECIPE]]
    assert accepted("recipes", "check", "nowhere") == [["recipes", "ls"]]
    Path("broken.yaml").write_text("a: [")
    accepted("recipes", "check", "broken.yaml")


def test_a_training_of_a_recipe_of_ones_own_and_the_same_run_by_its_name(cli, accepted, trained):
    found = accepted("train", RECIPE, *TINY, "--run-dir", "runs/other 1")
    assert ["train", RECIPE, *TINY, "inner.algorithm=anil"] in found
    assert accepted("train", "--resume", "--run-dir", Path(RUN).name)[0] == ["adapt", RUN, "--steps", "20"]
    for words in (["adapt", "other 1", "--tasks", 2], ["layers", "other 1", "--tasks", 2], ["runs", "show", "other 1"]):
        assert cli(*words).code == 0
    assert accepted("adapt", "othr 1") == [["runs", "ls"]]


def test_runs_that_are_damaged_or_not_finished(cli, accepted, trained):
    assert cli("train", "sinusoid", *TINY, "--run-dir", "runs/b c").code == 0
    scores = Path(RUN, "tasks.csv")
    scores.write_text(scores.read_text().replace("0.", "1."))
    again = ["adapt", RUN, "--out", RUN]
    assert again in accepted("runs", "compare", "b c", RUN, "--unpaired")
    Path(RUN, "evaluation.json").write_text("{")
    assert again in accepted("runs", "compare", "b c", RUN)
    manifest = Path(RUN, "manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "status": "interrupted"}))
    assert ["train", "--resume", "--run-dir", RUN] in accepted("runs", "compare", "b c", RUN)
    verify = ("recipes", "verify", "sinusoid", *TINY, "reference={metric: squared-error, value: 1, margin: 1}")
    assert accepted(*verify, "evaluation.tasks=4", "--run", "b c")[0][:2] == ["adapt", "runs/b c"]


def test_own_images_with_more_classes_than_the_run_has(cli, accepted, tmp_path):
    from PIL import Image

    photos = tmp_path / "my $photos [x]"
    for index, (name, number) in enumerate((name, number) for name in "abcdefghijklmnopqr" for number in range(4)):
        (photos / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, 8, 8, 3, seed=index)[0]).save(photos / name / f"{number}.png")
    keys = (*TINY_IMAGES, f"tasks.path={photos}", "tasks.ways=2", "tasks.shots=1", "tasks.image_size=8")
    found = accepted("train", "folder", *keys, "--run-dir", RUN)
    assert all(f"tasks.path={photos}" in words for words in found if words[0] == "train")
    for name in "abc":
        shutil.copytree(photos / name, tmp_path / "sup $port" / name)
    found = accepted("adapt", RUN, "--support", tmp_path / "sup $port", "--query", photos / "a")
    assert found == [["train", f"{RUN}/recipe.yaml", "tasks.ways=3"]]


def test_a_study_with_other_keys_than_the_one_that_is_there(cli, monkeypatch):
    monkeypatch.setattr("mamlcli.studies.sweeps.run.run_jobs", Pool())
    assert cli("recipes", "cp", "sinusoid", RECIPE).code == 0
    words = ("sweep-depth", RECIPE, *TINY, "--depths", "1", "--seeds", 1, "--jobs", 1, "--no-capacity", "--dir")
    assert cli(*words, "runs/my $study").code == 0
    # The same words as were accepted above.
    assert suggestions(cli(*words, "runs/my $study", "inner.lr=0.02").err) == [[*map(str, words), "runs/my $study"]]


def test_lists_and_names_that_are_not_there(accepted, with_glyphs):
    Path("runs").mkdir()
    assert accepted("runs", "ls") == [["train"]]
    assert accepted("adapt", f"{next(iter(shipped_models()))}9") == [["models", "ls"]]
    assert accepted("data", "show", "nosuch [x]") == [["data", "ls"]]
    assert accepted("runs", "compare", "nosuch", "neither") == [["runs", "ls"]]
    assert accepted("train", "--resume", "sinusoid") == [["train", "sinusoid"]]
