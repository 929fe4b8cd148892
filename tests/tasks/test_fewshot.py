"""N-way K-shot tasks: who is in them, how they are turned, and what is refused."""

import numpy as np
import pytest
import torch

from mamlcli.common.errors import DataError
from mamlcli.tasks.episodes import sample_tasks, task_generator
from mamlcli.tasks.fewshot import (
    NEAREST_NEIGHBOUR,
    FewShotTasks,
    device_images,
    fewshot_tasks,
    turned_by_a_gather,
    turned_one_by_one,
)
from mamlcli.tasks.images.augmentation import augmented
from mamlcli.tasks.images.packs import Pack
from tests.helpers.numerics import DOUBLE

NUM_CLASSES, PER_CLASS, SIDE = 6, 5, 4
NAMES = tuple(f"class {i}" for i in range(NUM_CLASSES))


def small_pack(*, side=SIDE, channels=1, per_class=PER_CLASS):
    """Return a pack of noise, its images in random order; no image is another, even turned."""
    rng = np.random.default_rng(0)
    num = NUM_CLASSES * per_class
    labels = rng.permutation(np.repeat(np.arange(NUM_CLASSES), per_class)).astype(np.int64)
    images = rng.integers(0, 256, size=(num, side, side, channels), dtype=np.uint8)
    return Pack(images, labels, NAMES)


def tasks_of(pack, *, names=NAMES, ways=3, shots=2, queries=3, **keys):
    images = device_images(pack, torch.device("cpu"))
    return fewshot_tasks(
        pack,
        images,
        names,
        where="small.npz, test split",
        ways=ways,
        shots=shots,
        queries=queries,
        dtype=DOUBLE,
        **keys,
    )


def draw(tasks, indices, *, iteration=0):
    return sample_tasks(tasks, seed=1, split="test", iteration=iteration, indices=indices)


def image_index(pack, image):
    """Return (index of the image in the pack, quarter turns), of the only match."""
    pixels = np.round(image.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
    matches = [
        (i, turns)
        for turns in range(4)
        for i, other in enumerate(pack.images)
        if np.array_equal(pixels, np.rot90(other, turns))
    ]
    assert len(matches) == 1, matches
    return matches[0]


@pytest.mark.parametrize("rotations", [False, True])
def test_support_and_query_share_no_image(rotations):
    pack = small_pack()
    episode = draw(tasks_of(pack, rotations=rotations), range(20))
    for task in range(20):
        support = {image_index(pack, image) for image in episode.support_x[task]}
        query = {image_index(pack, image) for image in episode.query_x[task]}
        assert len(support) == 3 * 2  # no image twice in a set either
        assert len(query) == 3 * 3
        assert not support & query


@pytest.mark.parametrize(
    ("names", "ways", "shots", "queries"),
    [
        (NAMES[:2], 4, 1, 1),  # two drawings of five, of at most four classes of a character: mostly drawings enough
        (NAMES[:5], 3, 1, 3),  # four drawings of five: never enough for two classes of a character
    ],
)
def test_rotated_classes_of_a_task_share_no_drawing(names, ways, shots, queries):
    pack = small_pack()
    tasks = tasks_of(pack, names=names, ways=ways, shots=shots, queries=queries, rotations=True)
    num_clashes = num_together = 0
    for index in range(60):
        rows, turns, _ = tasks._draw(task_generator(1, "test", 0, index))
        drawn = rows.flatten().tolist()
        characters = pack.labels[rows[:, 0].numpy()]
        # A character with three or four of its turns in a task lacks drawings, and the two characters may be used up.
        num_clashes += len(set(drawn)) < len(drawn) and np.bincount(characters).max() <= 2
        num_together += len(set(characters)) < ways
        assert (pack.labels[rows.numpy()] == characters[:, None]).all()
        assert len(set(zip(characters.tolist(), turns.tolist(), strict=True))) == ways
    assert num_clashes == 0
    assert (num_together > 0) == (queries == 1)


def test_only_tasks_that_repeat_a_drawing_are_drawn_otherwise(monkeypatch):
    tasks = tasks_of(small_pack(), ways=4, shots=1, queries=1, rotations=True)

    def rows_of_all():
        return [tasks._draw(task_generator(1, "test", 0, index))[0].tolist() for index in range(60)]

    mended = rows_of_all()
    monkeypatch.setattr(FewShotTasks, "_without_repeats", lambda self, labels, rows, generator: rows)
    plain = rows_of_all()
    repeats = [len({image for row in rows for image in row}) < 8 for rows in plain]
    assert 0 < sum(repeats) < 60
    assert [old != new for old, new in zip(plain, mended, strict=True)] == repeats


@pytest.mark.parametrize("rotations", [False, True])
def test_label_is_the_place_of_the_class_in_the_order_drawn(rotations):
    pack = small_pack()
    episode = draw(tasks_of(pack, rotations=rotations), range(10))
    assert torch.equal(episode.support_y, torch.tensor([0, 0, 1, 1, 2, 2]).expand(10, -1))
    assert torch.equal(episode.query_y, torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2]).expand(10, -1))
    for task in range(10):
        classes = {}
        for x, y in (
            (episode.support_x, episode.support_y),
            (episode.query_x, episode.query_y),
        ):
            for image, label in zip(x[task], y[task].tolist(), strict=True):
                index, turns = image_index(pack, image)
                classes.setdefault(label, set()).add((int(pack.labels[index]), turns))
        # One class (and turn) for each label, another for each.
        assert all(len(drawn) == 1 for drawn in classes.values())
        assert len(set.union(*classes.values())) == 3


@pytest.mark.parametrize("rotations", [False, True])
def test_every_class_is_drawn_and_at_every_place(rotations):
    pack = small_pack()
    episode = draw(tasks_of(pack, ways=2, shots=1, rotations=rotations), range(200))
    firsts = set()
    for task in range(200):
        index, turns = image_index(pack, episode.support_x[task, 0])
        firsts.add((int(pack.labels[index]), turns))
    # 6 or 24 classes; one is never first in 200 tasks with probability 24 (23/24)^200 < 0.5 %, and the seed is
    # fixed.
    assert firsts == {(label, turn) for label in range(6) for turn in range(4 if rotations else 1)}


@pytest.mark.parametrize("rotations", [False, True])
def test_task_is_the_same_alone_and_in_a_batch(rotations):
    tasks = tasks_of(small_pack(), rotations=rotations)
    batch = draw(tasks, range(6))
    for i in range(6):
        for part, expected in zip(draw(tasks, [i]).data(), batch.tasks(i, i + 1).data(), strict=True):
            assert torch.equal(part, expected)


def test_tasks_of_other_keys_differ():
    tasks = tasks_of(small_pack())
    batch = draw(tasks, range(6))
    assert len(batch.support_x.flatten(1).unique(dim=0)) == 6
    assert not torch.equal(batch.support_x, draw(tasks, range(6), iteration=1).support_x)


@pytest.mark.parametrize("channels", [1, 3])
def test_rotated_classes_are_torch_rot90_of_the_images(channels):
    pack = small_pack(channels=channels)
    images = device_images(pack, torch.device("cpu"))
    tasks = tasks_of(pack, rotations=True, ways=4, shots=2, queries=1)
    episode = draw(tasks, range(20))
    seen = set()
    for task in range(20):
        for image in episode.support_x[task]:
            index, turns = image_index(pack, image)
            seen.add(turns)
            assert torch.equal(image, torch.rot90(images[index], turns, dims=(-2, -1)).to(DOUBLE) / 255)
    assert seen == {0, 1, 2, 3}


def test_rotations_count_as_classes():
    # One class, turned four ways, makes a task of four ways, but not of five.
    pack = small_pack()
    episode = draw(tasks_of(pack, names=NAMES[2:3], rotations=True, ways=4, shots=1, queries=1), range(3))
    for task in range(3):
        drawn = [image_index(pack, image) for image in episode.support_x[task]]
        assert {int(pack.labels[index]) for index, _ in drawn} == {2}
        assert {turns for _, turns in drawn} == {0, 1, 2, 3}
    with pytest.raises(DataError, match=r"tasks\.ways .*expected at most 4, .*got 5"):
        tasks_of(pack, names=NAMES[2:3], rotations=True, ways=5)


def test_only_the_classes_of_the_split_are_drawn():
    pack = small_pack()
    episode = draw(tasks_of(pack, names=(NAMES[4], NAMES[1], NAMES[3])), range(10))
    labels = {int(pack.labels[image_index(pack, image)[0]]) for image in episode.query_x.flatten(0, 1)}
    assert labels == {1, 3, 4}


def test_a_class_may_give_all_its_images():
    pack = small_pack()
    episode = draw(tasks_of(pack, shots=2, queries=PER_CLASS - 2), range(1))
    used = [image_index(pack, image)[0] for image in (*episode.support_x[0], *episode.query_x[0])]
    assert len(set(used)) == 3 * PER_CLASS


def test_images_stay_bytes_and_episodes_are_fractions():
    pack = small_pack(channels=3)
    images = device_images(pack, torch.device("cpu"))
    assert images.dtype == torch.uint8
    assert images.shape == (NUM_CLASSES * PER_CLASS, 3, SIDE, SIDE)
    assert torch.equal(images[7, 2], torch.from_numpy(pack.images[7, :, :, 2]))
    tasks = tasks_of(pack)
    assert tasks.images.dtype == torch.uint8
    assert tasks.input_shape == (3, SIDE, SIDE)
    episode = draw(tasks, range(2))
    assert episode.support_x.shape == (2, 6, 3, SIDE, SIDE)
    assert episode.support_x.dtype == DOUBLE
    assert 0 <= episode.support_x.min() < episode.support_x.max() <= 1


def test_splits_share_one_copy_of_the_images():
    pack = small_pack()
    images = device_images(pack, torch.device("cpu"))
    keys = {"where": "small.npz", "ways": 2, "shots": 1, "queries": 1}
    first, second = (fewshot_tasks(pack, images, names, **keys) for names in (NAMES[:3], NAMES[3:]))
    assert first.images is second.images is images


def test_chance_is_one_over_ways():
    tasks = tasks_of(small_pack(), ways=4)
    assert tasks.chance_accuracy == 0.25
    assert tasks.num_outputs == 4
    assert tasks.is_classification


def test_too_many_ways_are_refused():
    with pytest.raises(DataError, match=r"tasks\.ways \(small\.npz, test split\): expected at most 6, .*got 7"):
        tasks_of(small_pack(), ways=7)


def test_too_many_images_of_a_class_are_refused_and_the_class_is_named():
    pack = small_pack()
    keep = np.flatnonzero(pack.labels == 3)[0]
    rest = np.ones(len(pack.labels), dtype=bool)
    rest[keep] = False
    smaller = Pack(pack.images[rest], pack.labels[rest], NAMES)
    tasks_of(smaller, shots=2, queries=2)
    with pytest.raises(DataError, match=r"expected at most 4, the images of class 'class 3', got 2 \+ 3"):
        tasks_of(smaller, shots=2, queries=3)


def test_missing_classes_are_named():
    with pytest.raises(DataError, match=r"2 missing: class 8, class 9"):
        tasks_of(small_pack(), names=(*NAMES, "class 8", "class 9"))


def test_rotations_of_images_that_are_not_square_are_refused():
    images = np.zeros((NUM_CLASSES * PER_CLASS, 4, 5, 1), dtype=np.uint8)
    pack = Pack(images, np.repeat(np.arange(NUM_CLASSES), PER_CLASS), NAMES)
    tasks_of(pack)
    with pytest.raises(DataError, match=r"tasks\.rotations .*square images.*tasks\.rotations=false"):
        tasks_of(pack, rotations=True)


def test_nearest_neighbour_reference_is_a_plain_search():
    tasks = tasks_of(small_pack(channels=3))
    episode = draw(tasks, range(8))
    expected = []
    for support_x, support_y, query_x, query_y in zip(*episode.data(), strict=True):
        right = 0
        for image, label in zip(query_x, query_y, strict=True):
            distances = [float((image - other).square().sum()) for other in support_x]
            right += int(support_y[distances.index(min(distances))] == label)
        expected.append(right / len(query_y))
    scores = tasks.references(episode)[NEAREST_NEIGHBOUR]
    assert scores.loss is None
    assert scores.accuracy.tolist() == expected
    assert 0 < sum(expected) < 8  # the comparison is of numbers that vary


def test_nearest_neighbour_is_always_right_where_classes_are_far_apart():
    labels = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)
    noise = np.random.default_rng(0).integers(0, 10, size=(len(labels), SIDE, SIDE, 1))
    pack = Pack((noise + 40 * labels[:, None, None, None]).astype(np.uint8), labels, NAMES)
    tasks = tasks_of(pack)
    assert tasks.references(draw(tasks, range(5)))[NEAREST_NEIGHBOUR].accuracy.tolist() == [1.0] * 5


AUGMENT = ("flip", "crop", "colour")


@pytest.mark.parametrize("rotations", [False, True])
def test_augmentation_leaves_classes_images_and_turns_of_a_task_as_they_are(rotations):
    pack = small_pack(channels=3, side=16)
    plain = draw(tasks_of(pack, rotations=rotations), range(5))
    mirrored = draw(tasks_of(pack, rotations=rotations, augment=("flip",)), range(5))
    for x, other in ((plain.support_x, mirrored.support_x), (plain.query_x, mirrored.query_x)):
        is_same = (x == other).flatten(2).all(2)
        is_mirrored = (x.flip(-1) == other).flatten(2).all(2)
        assert bool((is_same ^ is_mirrored).all())
        assert 0 < int(is_mirrored.sum()) < is_mirrored.numel()


def test_augmentation_is_what_the_generator_draws_after_the_task():
    pack = small_pack(channels=3, side=16)
    tasks = tasks_of(pack, augment=AUGMENT)
    x = tasks_of(pack).sample([torch.Generator().manual_seed(3)])
    generator = torch.Generator().manual_seed(3)
    tasks_of(pack).sample([generator])
    numbers = torch.rand(3 * 5, 7, dtype=DOUBLE, generator=generator).view(3, 5, 7)
    found = tasks.sample([torch.Generator().manual_seed(3)])
    plain = torch.cat([x.support_x.view(3, 2, 3, 16, 16), x.query_x.view(3, 3, 3, 16, 16)], dim=1)
    expected = augmented((plain * 255).round().to(torch.uint8), numbers, AUGMENT, DOUBLE)
    assert torch.equal(found.support_x[0], expected[:, :2].flatten(0, 1))
    assert torch.equal(found.query_x[0], expected[:, 2:].flatten(0, 1))
    assert torch.equal(found.support_y, x.support_y)


def test_augmented_task_has_the_same_bits_alone_and_in_a_batch():
    tasks = tasks_of(small_pack(channels=3, side=16), augment=AUGMENT)
    batch = draw(tasks, range(6))
    for i in range(6):
        for part, expected in zip(draw(tasks, [i]).data(), batch.tasks(i, i + 1).data(), strict=True):
            assert torch.equal(part, expected)


def test_every_image_is_augmented_by_a_draw_of_its_own():
    one_image = np.repeat(small_pack(channels=3, side=16).images[:1], NUM_CLASSES * PER_CLASS, axis=0)
    pack = Pack(one_image, small_pack().labels, NAMES)
    episode = draw(tasks_of(pack, augment=("colour",)), range(4))
    x = torch.cat([episode.support_x, episode.query_x], dim=1).flatten(0, 1).flatten(1)
    assert len(x.unique(dim=0)) == len(x)


def test_augmentation_of_grey_images_is_refused():
    with pytest.raises(DataError, match=r"tasks\.augment \(small\.npz, test split\): expected nothing for grey .*flip"):
        tasks_of(small_pack(), augment=("flip",))


@pytest.mark.parametrize(
    ("num", "words"), [(2, "at most 2, .* got 3. Set tasks.ways=2"), (1, "expected 3 classes, got 1. Use")]
)
def test_no_step_is_named_that_is_impossible(num, words):
    with pytest.raises(DataError, match=words):
        tasks_of(small_pack(), names=NAMES[:num])


def test_images_are_turned_the_same_way_on_every_device():
    x = torch.arange(2 * 5 * 3 * 2 * 16, dtype=torch.float32).view(2, 5, 3, 2, 4, 4)
    turns = torch.tensor([[0, 1, 2, 3, 1], [2, 2, 0, 0, 3]])
    expected = [
        [torch.rot90(images, int(k), (-2, -1)) for images, k in zip(*task, strict=True)]
        for task in zip(x, turns, strict=True)
    ]
    for turned in (turned_one_by_one, turned_by_a_gather):
        torch.testing.assert_close(turned(x, turns), torch.stack([torch.stack(task) for task in expected]))
