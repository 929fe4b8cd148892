"""`mamlcli adapt --support --query`, run as a user would."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest
from PIL import Image

from tests.helpers.image_files import class_folders, noise, save
from tests.helpers.predictions import TRAINING
from tests.helpers.running import TINY_IMAGES, train_tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose data is gone."""
    root = tmp_path_factory.mktemp("run")
    data = class_folders(root / "data", [f"c{index}" for index in range(6)])
    keys = ("tasks.ways=3", "evaluation.split=train", "tasks.shots=1", "tasks.image_size=12")
    path = train_tiny(root / "run", "folder", f"tasks.path={data}", *TINY_IMAGES, *keys).path
    shutil.rmtree(data)
    return path


@pytest.fixture
def own(tmp_path):
    class_folders(tmp_path / "support", ["a", "b"], num_images=2)
    class_folders(tmp_path / "query", ["a", "b"], num_images=2, side=30)
    return tmp_path


def test_own_images_are_classified(cli, run, own):
    ended = cli("adapt", run, "--support", "support", "--query", "query", "--sheet", "s/sheet.png", "--out", "p.csv")
    assert ended.code == 0, ended.err
    assert "folder: 4 images by 2 classes of support images, 2 each" in ended.out
    assert "Accuracy on the query images of known class" in ended.out
    assert max(len(line) for line in ended.out.splitlines()) <= 120
    assert "\x1b" not in ended.out + ended.err
    with (own / "p.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 4
    with Image.open(own / "s" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 2 * 84
        assert sheet.height > 3 * 84
    assert "Written: p.csv" in ended.err


def test_json_is_one_document_on_stdout(cli, run, own):
    (own / "query" / "a" / "text.png").write_text("no picture")
    ended = cli("adapt", run, "--support", "support", "--query", "query", "--json", "--out", "p.json")
    report = json.loads(ended.out)
    assert report == json.loads((own / "p.json").read_text())
    assert report["skipped"] == [{"file": "query/a/text.png", "reason": "a file of no known image format"}]
    assert "warning: skipped query/a/text.png: a file of no known image format" in ended.err


def test_one_image_is_classified(cli, run, own):
    save(own / "my letter.jpg", noise(40, 50, 3))
    ended = cli("adapt", run, "--support", "support", "--query", "my letter.jpg", "--steps", 4)
    assert ended.code == 0, ended.err
    assert "1 image by 2 classes" in ended.out
    assert "my letter.jpg" in ended.out
    assert "4 inner steps" in ended.out
    assert "Accuracy on" not in ended.out


def test_many_skipped_files_are_counted(cli, run, own):
    for index in range(25):
        (own / "query" / f"{index}.txt").write_text("x")
    ended = cli("adapt", run, "--support", "support", "--query", "query")
    assert "skipped 5 more files" in ended.err


@pytest.fixture
def refuses(cli, run, own):
    def refused(*words):
        ended = cli("adapt", run, *words)
        assert (ended.code, ended.out) == (1, ""), ended.err
        assert len(ended.errors) == 1, ended.err
        return ended.errors[0]

    return refused


def test_half_of_the_options_is_refused(refuses):
    assert "expected --query with --support, got --support alone" in refuses("--support", "support")
    assert "expected --support with --query, got --query alone" in refuses("--query", "query")


def test_options_of_the_other_kind_are_refused(refuses):
    both = ("--support", "support", "--query", "query")
    assert refuses(*both, "--tasks", 5).startswith("--tasks: expected not to be used with --support and --query")
    assert refuses(*both, "--split", "test").startswith("--split: expected not to be used")
    assert refuses(*both, "evaluation.shots=2").startswith("evaluation.shots=2: expected not to be used with --support")
    assert refuses("--joint").startswith("--joint: expected not to be used with a run's own tasks")
    assert refuses("--sheet", "x.png").startswith("--sheet: ")


def test_mistakes_are_one_line(refuses, own):
    both = ("--support", "support", "--query", "query")
    assert "ends in .csv or .json" in refuses(*both, "--out", "folder")
    assert "ends in .png" in refuses(*both, "--sheet", "x.gif")
    assert "one of auto, yes, no" in refuses(*both, "--invert", "maybe")
    assert "one of file, ink" in refuses(*both, "--frame", "x")
    (own / "file").write_text("mine")
    assert "--out file/p.csv: expected a file that can be written" in refuses(*both, "--out", "file/p.csv")
    class_folders(own / "support", ["c", "d"], num_images=1)
    assert re.search(r"or train a run with more: mamlcli train \S+/recipe\.yaml tasks\.ways=4$", refuses(*both))


def test_place_of_the_data_may_be_said_with_own_images_too(cli, run, own):
    ended = cli("adapt", run, "tasks.path=elsewhere", "--support", "support", "--query", "query", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["accuracy"]["num_images"] == 4


def test_exported_classes_can_be_classified(cli, run, own):
    class_folders(own / "photos", [f"x{index}" for index in range(8)], num_images=5)
    assert cli("data", "import", "folder", "photos").code == 0
    ended = cli("data", "export", "photos", "--split", "all", "--classes", 3, "--images", 4, "--shots", 1, "--out", "e")
    assert ended.code == 0, ended.err
    ended = cli("adapt", run, "--support", "e/support", "--query", "e/query", "--json")
    report = json.loads(ended.out)
    assert len(report["classes"]) == 3
    assert (report["support"]["num_images"], report["accuracy"]["num_images"]) == (3, 9)


def test_seven_classes_are_told_apart_by_a_run_of_five_ways_with_a_head_at_zero(cli, tmp_path):
    class_folders(tmp_path / "data", [f"c{index}" for index in range(8)])
    keys = (*TRAINING, "tasks.ways=5", "inner.head=zero")
    trained = cli("train", "folder", "tasks.path=data", *keys, "--run-dir", "run")
    assert trained.code == 0, trained.err
    names = [f"own{index}" for index in range(7)]
    class_folders(tmp_path / "support", names)
    class_folders(tmp_path / "query", names)
    ended = cli("adapt", "run", "--support", "support", "--query", "query", "--steps", 20, "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["classes"] == names
    assert report["accuracy"]["mean"] > 0.5  # by chance 1/7


def test_seven_classes_are_refused_by_a_learned_head_with_the_reason(cli, run, tmp_path):
    for name in ("support", "query"):
        class_folders(tmp_path / name, [f"own{index}" for index in range(7)])
    ended = cli("adapt", run, "--support", "support", "--query", "query")
    assert ended.code == 1
    assert "The learned head has 3 outputs; a run trained with inner.head=zero or shared" in " ".join(ended.err.split())
