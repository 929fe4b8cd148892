"""Glyphs: the same bytes for the same seed, readable images, scripts apart, and a cache that never harms."""

from __future__ import annotations

import numpy as np
import pytest

from mamlcli.common.errors import DataError
from mamlcli.tasks.images.glyphs import (
    GLYPHS_VERSION,
    IMAGE_SIZE,
    NUM_INSTANCES,
    glyph_splits,
    load_glyphs,
    render_glyphs,
)
from mamlcli.tasks.images.letters import SPLIT_SCRIPTS
from mamlcli.tasks.images.packs import Pack, load_pack


@pytest.fixture(scope="module")
def full(glyphs_cache):
    return load_pack(glyphs_cache / "mamlcli" / f"glyphs-v{GLYPHS_VERSION}-seed0.npz")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Keep data in a temporary folder, draw a few letters instead of all, and note each drawing's seed."""
    monkeypatch.delenv("MAMLCLI_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = []

    def few(seed=0):
        drawn.append(seed)
        return render_glyphs(seed, scripts=["Lisu"], num_instances=2)

    monkeypatch.setattr("mamlcli.tasks.images.glyphs.render_glyphs", few)
    return tmp_path / "mamlcli" / f"glyphs-v{GLYPHS_VERSION}-seed0.npz", drawn


def assert_same(first: Pack, second: Pack) -> None:
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.class_names == second.class_names
    assert first.class_groups == second.class_groups
    assert first.source == second.source


def test_pack_has_its_shape(full):
    assert full.num_classes >= 600
    assert len(set(full.class_names)) == full.num_classes
    assert all(name.isprintable() for name in full.class_names)
    assert len(set(full.class_groups)) >= 12
    assert full.images.shape == (full.num_classes * NUM_INSTANCES, IMAGE_SIZE, IMAGE_SIZE, 1)
    assert full.images.dtype == np.uint8
    assert full.class_counts().tolist() == [NUM_INSTANCES] * full.num_classes
    assert "licence" in full.source.record


def test_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, second, other = (render_glyphs(seed, scripts=["NKo"], num_instances=4) for seed in (3, 3, 4))
    assert_same(first, second)
    assert first.class_names == other.class_names
    assert not np.array_equal(first.images, other.images)


def test_part_equals_that_part_of_the_whole(full):
    part = render_glyphs(scripts=["Hebrew", "Lisu"], num_instances=3)
    every = full.images.reshape(full.num_classes, NUM_INSTANCES, -1)
    labels = [full.class_names.index(name) for name in part.class_names]
    np.testing.assert_array_equal(part.images.reshape(len(labels), 3, -1), every[labels, :3])


def test_unknown_script_is_rejected_with_the_nearest_name():
    with pytest.raises(DataError, match="Did you mean 'Hebrew'"):
        render_glyphs(scripts=["Hebrw"])


def test_every_image_has_ink_and_paper(full):
    ink = full.images.reshape(len(full.images), -1) / 255.0
    # A letter 19 pixels long, drawn with the thinnest pen, has some 20 pixels of ink; the fullest, a third.
    assert ink.sum(axis=1).min() > 10
    assert ink.mean(axis=1).max() < 0.5
    assert ink.max(axis=1).min() > 0.5


def test_letters_are_not_clipped(full):
    edge = np.ones((IMAGE_SIZE, IMAGE_SIZE), dtype=bool)
    edge[1:-1, 1:-1] = False
    # Bending takes the end of a stroke to the edge now and then; a clipped letter would leave much ink there.
    on_edge = (full.images[:, edge, 0] > 127).sum(axis=1)
    assert (on_edge > 3).mean() < 0.01


def test_instances_of_a_class_all_differ(full):
    every = full.images.reshape(full.num_classes, NUM_INSTANCES, -1)
    assert all(len({image.tobytes() for image in images}) == NUM_INSTANCES for images in every)


def test_splits_cover_all_classes_by_whole_scripts(full):
    splits = glyph_splits(full)
    assert list(splits) == ["train", "validation", "test"]
    names = [name for part in splits.values() for name in part]
    assert sorted(names) == sorted(full.class_names)
    groups = dict(zip(full.class_names, full.class_groups, strict=True))
    scripts = {split: {groups[name] for name in part} for split, part in splits.items()}
    assert {split: set(known) for split, known in SPLIT_SCRIPTS.items()} == scripts
    assert sum(map(len, scripts.values())) == len(set().union(*scripts.values()))


def test_splits_have_sensible_sizes(full):
    sizes = {split: len(names) for split, names in glyph_splits(full).items()}
    assert 0.6 <= sizes["train"] / full.num_classes <= 0.7
    assert sizes["validation"] >= 60
    assert sizes["test"] >= 60


def nearest_neighbour_accuracy(pack: Pack, names: tuple[str, ...], *, num_tasks: int) -> float:
    """5-way 1-shot accuracy of the nearest support image in pixels, 15 queries per class."""
    images = pack.images.reshape(pack.num_classes, NUM_INSTANCES, -1) / 255.0
    labels = [pack.class_names.index(name) for name in names]
    rng = np.random.default_rng(0)
    right = []
    for _ in range(num_tasks):
        drawn = images[rng.choice(labels, 5, replace=False)][:, rng.permutation(NUM_INSTANCES)]
        support, query = drawn[:, 0], drawn[:, 1:16].reshape(75, -1)
        distance = (support**2).sum(1) - 2.0 * query @ support.T
        right.append((distance.argmin(1) == np.repeat(np.arange(5), 15)).mean())
    return float(np.mean(right))


def test_nearest_neighbour_in_pixels_is_far_from_chance_and_from_right(full):
    # 0.56 over 600 tasks; 100 tasks have a standard error of about 0.01. Chance is 0.2.
    accuracy = nearest_neighbour_accuracy(full, glyph_splits(full)["test"], num_tasks=100)
    assert 0.45 < accuracy < 0.65


def test_second_load_reads_the_cache(cache):
    path, drawn = cache
    first = load_glyphs()
    assert path.is_file()
    second = load_glyphs()
    assert drawn == [0]
    assert_same(first, second)


def test_damaged_cache_is_drawn_again_and_mended(cache):
    path, drawn = cache
    first = load_glyphs()
    content = bytearray(path.read_bytes())
    content[100:140] = bytes(40)
    path.write_bytes(content)
    assert_same(load_glyphs(), first)
    assert_same(load_glyphs(), first)
    assert drawn == [0, 0]


def test_damaged_pack_in_the_data_folder_does_not_hide_the_cache(cache, monkeypatch, tmp_path):
    path, drawn = cache
    load_glyphs()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / path.name).write_bytes(b"no pack")
    monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path / "data"))
    load_glyphs()
    assert drawn == [0]


def test_pack_of_another_seed_under_the_name_is_drawn_again(cache):
    path, drawn = cache
    load_glyphs(1)
    path.with_name(f"glyphs-v{GLYPHS_VERSION}-seed1.npz").rename(path)
    assert load_glyphs(0).source.record["seed"] == 0
    assert drawn == [1, 0]


def test_pack_in_the_data_folder_is_read(cache, monkeypatch, tmp_path):
    path, drawn = cache
    load_glyphs()
    (tmp_path / "data").mkdir()
    path.rename(tmp_path / "data" / path.name)
    monkeypatch.setenv("MAMLCLI_DATA", str(tmp_path / "data"))
    load_glyphs()
    assert drawn == [0]


def test_cache_that_cannot_be_written_stops_nothing(cache, monkeypatch, tmp_path):
    _, drawn = cache
    (tmp_path / "file").write_text("in the way of a folder")  # holds for root too, unlike permissions
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_glyphs().num_classes > 0
    assert drawn == [0]
