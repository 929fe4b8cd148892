"""What is listed of packs, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from mamlcli.cli.data_tables import CheckedPack, finding_parts, listed_packs, pack_parts, packs_to_json
from mamlcli.common.files import data_dir
from mamlcli.tasks.images.checks import Finding
from mamlcli.tasks.images.sources import SOURCES
from tests.helpers.running import noise_pack
from tests.helpers.terminal import as_shown


def text(parts):
    return as_shown(list(parts), width=160)


@pytest.fixture
def packs():
    """Three packs: a good one of the user's, a damaged one, and Omniglot."""
    noise_pack(data_dir() / "pets.npz", ["cat", "dog"], num_images=3, shape=(4, 4, 3), licence="mine [2026]")
    noise_pack(data_dir() / "omniglot.npz", ["a"], num_images=2, shape=(28, 28, 1))
    (data_dir() / "broken.npz").write_text("no archive")
    return {pack.name: pack for pack in listed_packs()}


def test_sources_come_first_then_packs_of_ones_own(packs):
    assert list(packs) == [*SOURCES, "broken", "pets"]


def test_a_pack_is_described_by_its_own_header(packs):
    assert packs["pets"].to_json() == {
        "name": "pets",
        "path": str(data_dir() / "pets.npz"),
        "num_images": 6,
        "num_classes": 2,
        "height": 4,
        "width": 4,
        "channels": 3,
        "licence": "mine [2026]",
    }


def test_a_source_that_is_not_here_says_how_to_get_it(packs):
    row = {pack["name"]: pack for pack in packs_to_json(list(packs.values()))}["cifar-fs"]
    assert row["path"] is None
    assert row["get"] == SOURCES["cifar-fs"].get
    assert "num_images" not in row


def test_a_damaged_pack_says_what_is_wrong_and_what_tells_more(packs):
    assert "problem" in packs["broken"].to_json()
    assert "damaged; see: mamlcli data check broken" in text(pack_parts(list(packs.values())))


def test_the_table_has_sizes_and_brackets_as_they_are(packs):
    lines = text(pack_parts(list(packs.values()))).splitlines()
    pets = next(line for line in lines if line.startswith("pets") or line.startswith(" pets"))
    assert pets.split()[1:4] == ["6", "2", "4x4x3"]
    assert "[2026]" in text(pack_parts([packs["pets"]]))


def test_errors_alone_make_commands_fail():
    findings = [Finding("error", "classes", "none [a]"), Finding("warning", "images", "few"), Finding("note", "x", "y")]
    checked = CheckedPack("pets", findings)
    assert checked.num_errors == 1
    assert checked.to_json()["findings"][0] == {"severity": "error", "check": "classes", "message": "none [a]"}
    assert "none [a]" in text(finding_parts(checked))


def test_drawn_glyphs_in_the_cache_are_no_pack_of_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("MAMLCLI_DATA")
    cache = data_dir()
    cache.mkdir(parents=True)
    np.savez(cache / "glyphs-v1-seed0.npz", images=np.zeros(1))
    assert [pack.name for pack in listed_packs()] == list(SOURCES)
