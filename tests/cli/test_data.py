"""`mamlcli data`, run as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import mamlcli
from mamlcli.cli.data import app
from mamlcli.common.commands import command
from mamlcli.common.errors import DataError
from mamlcli.tasks.images.class_splits import published_split
from mamlcli.tasks.images.packs import Pack, PackSource, save_pack
from tests.helpers.image_files import class_folders, noise, omniglot_folders


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def invoke(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def succeed(*args):
    result = invoke(*args)
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def fail(*args):
    result = invoke(*args)
    assert isinstance(result.exception, DataError), result.output
    return str(result.exception)


@pytest.fixture
def photos(tmp_path):
    class_folders(tmp_path / "photos", [f"class{index}" for index in range(8)], num_images=5)
    succeed("import", "folder", tmp_path / "photos")
    return tmp_path / "data" / "photos.npz"


def test_ls_names_every_source_and_how_to_get_it():
    rows = {row["name"]: row for row in json.loads(succeed("ls", "--json"))}
    assert {"omniglot", "cifar-fs", "fc100", "mini-imagenet", "folder", "glyphs"} <= set(rows)
    assert rows["omniglot"]["get"] == "mamlcli data fetch omniglot"
    assert rows["omniglot"]["path"] is None


def test_ls_shows_packs_that_are_here_and_which_are_damaged(photos, tmp_path):
    (tmp_path / "data" / "omniglot.npz").write_text("damaged")
    rows = {row["name"]: row for row in json.loads(succeed("ls", "--json"))}
    assert rows["photos"] | {"licence": ""} == {
        "name": "photos",
        "path": str(photos),
        "num_images": 40,
        "num_classes": 8,
        "height": 12,
        "width": 12,
        "channels": 3,
        "licence": "",
    }
    assert "readable pack" in rows["omniglot"]["problem"]
    table = succeed("ls")
    assert "12x12x3" in table
    assert "damaged" in table


def test_ls_and_help_load_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from mamlcli.cli.data import app; "
        "assert CliRunner().invoke(app, [sys.argv[1]]).exit_code == 0; sys.exit('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(mamlcli.__file__).parents[1])}
    for argument in ("ls", "--help"):
        command = [sys.executable, "-c", code, argument]
        assert subprocess.run(command, check=False, env=environment).returncode == 0


def test_import_says_what_was_made_and_what_was_skipped(tmp_path):
    omniglot_folders(tmp_path / "drawings")
    (tmp_path / "drawings" / "Greek" / "character01" / "99.png").write_text("no picture")
    result = invoke("import", "omniglot", tmp_path / "drawings")
    assert result.exit_code == 0
    assert "12 images of 4 classes, 28x28x1, inverted" in " ".join(result.stdout.split())
    assert (tmp_path / "data" / "omniglot.npz").is_file()


def test_import_takes_name_size_and_channels(tmp_path):
    class_folders(tmp_path / "x", ["a", "b"])
    succeed("import", "folder", tmp_path / "x", "--name", "pets", "--size", 9, "--channels", 1, "--invert", "yes")
    rows = {row["name"]: row for row in json.loads(succeed("ls", "--json"))}
    assert (rows["pets"]["height"], rows["pets"]["channels"]) == (9, 1)


def test_import_replaces_only_by_force(photos, tmp_path):
    assert "--force" in fail("import", "folder", tmp_path / "photos")
    succeed("import", "folder", tmp_path / "photos", "--force")


def test_import_of_an_unknown_source_names_the_known_ones(tmp_path):
    assert "mini-imagenet" in fail("import", "minimagenet", tmp_path)


def test_fetch_without_network_names_the_import(monkeypatch):
    from torchvision.datasets import utils

    def refuse(*_args, **_kwargs):
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(utils, "download_and_extract_archive", refuse)
    assert "mamlcli data import omniglot DIR" in fail("fetch", "omniglot")


def test_check_of_a_sound_pack_succeeds(photos):
    assert "40 images of 8 classes" in succeed("check", "photos")
    assert "40 images of 8 classes" in succeed("check", photos)


def test_check_fails_after_it_has_listed_the_errors(tmp_path):
    save_pack(Pack(noise(4, 6, 6, 3), np.array([0, 0, 1, 1]), ("apple", "baby")), tmp_path / "cifar-fs.npz")
    result = invoke("check", tmp_path / "cifar-fs.npz", "--split", "train", "--json")
    assert isinstance(result.exception, DataError)
    findings = json.loads(result.stdout)["findings"]
    assert findings[0]["severity"] == "error"
    assert findings[0]["message"].startswith("train: 63 of 64 classes are not in the pack: aquarium_fish")


def test_check_of_a_part_of_a_source_says_how_its_classes_can_be_trained_on(tmp_path):
    train = published_split("cifar-fs")["train"]
    path = tmp_path / "part.npz"
    labels = np.repeat(np.arange(len(train)), 6)
    save_pack(Pack(noise(len(labels), 6, 6, 3), labels, tuple(train), source=PackSource({"name": "cifar-fs"})), path)
    told = fail("check", path)
    assert told.endswith(f"not in the splits of cifar-fs: {command('train', 'folder', f'tasks.path={path}')}")


def test_check_tells_that_classes_are_too_few_to_split(tmp_path):
    save_pack(Pack(noise(4, 6, 6, 3), np.array([0, 0, 1, 1]), ("a", "b")), tmp_path / "two.npz")
    result = invoke("check", "two.npz", "--json")
    assert [finding["check"] for finding in json.loads(result.stdout)["findings"]] == [
        "class split",
        "class counts",
    ]


def test_check_of_a_damaged_pack_fails(tmp_path):
    (tmp_path / "x.npz").write_text("damaged")
    assert "readable pack" in fail("check", "x.npz")


def test_unknown_pack_and_split_are_refused_with_the_nearest_name(photos):
    assert "Did you mean 'omniglot'" in fail("check", "omniglott")
    assert "mamlcli data fetch fc100" in fail("check", "fc100")
    assert "computed" in fail("check", "sinusoid")
    assert "Did you mean 'train'" in fail("check", "photos", "--split", "trian")


def test_show_writes_a_picture(photos, tmp_path):
    out = succeed("show", "photos", "--ways", 3, "--shots", 2, "--queries", 1)
    assert "3 classes" in " ".join(out.split())
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 84


def test_show_says_how_many_classes_a_split_has(photos):
    assert "--split all" in fail("show", "photos", "--split", "test")
    succeed("show", "photos", "--split", "all", "--out", "all.png")


def test_show_draws_from_the_classes_of_a_split_that_are_there(tmp_path):
    save_pack(Pack(noise(4, 6, 6, 3), np.array([0, 0, 1, 1]), ("apple", "baby")), tmp_path / "cifar-fs.npz")
    succeed("show", "cifar-fs.npz", "--ways", 1, "--queries", 1)
    assert "none of them" in fail("show", "cifar-fs.npz", "--split", "validation")
