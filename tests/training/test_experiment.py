"""Building: what only data and device can tell is checked here, and the same seed gives the same start."""

from __future__ import annotations

import pytest
import torch

from mamlcli.common.errors import DataError, DeviceError, MamlError
from mamlcli.common.names import TRANSFORMS
from mamlcli.engine.execution import Execution
from mamlcli.engine.transforms import KFO, Identity, Selected
from mamlcli.recipe.files import load_recipe
from mamlcli.tasks.images.class_splits import published_classes
from mamlcli.training.data import load_image_pack
from mamlcli.training.experiment import MAX_DENSE_ENTRIES, build
from mamlcli.training.placement import resolve_device
from mamlcli.training.tuned import TunedChoice, store_tuned
from tests.helpers.image_files import class_folders
from tests.helpers.running import TINY, TINY_IMAGES, noise_pack

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(autouse=True)
def leave_threads(one_thread):
    """Recipes here set the number of threads."""


def built(recipe, *overrides, splits=("train",)):
    tiny = TINY if recipe in ("linear-regression", "logistic", "sinusoid") else TINY_IMAGES
    return build(load_recipe(recipe, (*tiny, *overrides))[1], splits=splits)


@pytest.fixture
def cifar_of_two_splits(tmp_path):
    """The classes of meta-train and meta-validation, without those of meta-test."""
    splits = published_classes("cifar_fs")
    return noise_pack(tmp_path / "data" / "cifar-fs.npz", splits["train"] + splits["validation"])


def build_cifar(*overrides, splits=("train",)):
    return built("cifar-fs-5way-5shot", "tasks.shots=1", *overrides, splits=splits)


# Devices ---------------------------------------------------------------------------------------------------


@NO_CUDA
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_without_one_is_refused(name):
    with pytest.raises(DeviceError, match=r"which has 0 CUDA devices, got 'cuda.*--device cpu"):
        resolve_device(name)


def test_cuda_device_beyond_the_last_is_refused():
    with pytest.raises(DeviceError, match=f"cuda:{torch.cuda.device_count() + 1}"):
        resolve_device(f"cuda:{torch.cuda.device_count() + 1}")


def test_auto_is_a_device_of_this_machine():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


# Patterns and transforms -----------------------------------------------------------------------------------


def test_pattern_that_matches_nothing_is_refused_with_the_names_there_are():
    with pytest.raises(MamlError, match=r"inner\.adapt: .* got 'nope\*'.*head\.0\.weight"):
        built("sinusoid", 'inner.adapt=["nope*"]')


def test_pattern_of_a_transform_that_matches_nothing_is_refused():
    with pytest.raises(MamlError, match=r"inner\.transform\.parameters: .* got 'nope'"):
        built("sinusoid", "inner.transform=kfo", "inner.transform.parameters=[nope]")


def test_pattern_of_a_transform_is_looked_for_among_what_adapts():
    with pytest.raises(MamlError, match=r"inner\.transform\.parameters"):
        built("sinusoid", "inner.algorithm=anil", "inner.transform=kfo", 'inner.transform.parameters=["body*"]')


def test_anil_that_adapts_the_body_is_refused():
    with pytest.raises(MamlError, match=r"inner\.adapt: expected parameters of the head"):
        built("sinusoid", "inner.algorithm=anil", 'inner.adapt=["*"]')


def test_dense_transform_of_a_large_tensor_is_refused_with_the_tensor():
    with pytest.raises(MamlError, match=f"body.*with 10000 entries, above {MAX_DENSE_ENTRIES}"):
        built("sinusoid", "inner.transform=dense", "model.width=100")


def test_dense_transform_of_small_tensors_of_a_large_model_is_built():
    chosen = ("inner.transform=dense", "model.width=100", 'inner.transform.parameters=["*bias"]')
    assert isinstance(built("sinusoid", *chosen).objective().inner.transform, Selected)


def test_transform_has_meta_parameters_of_its_own():
    meta = built("linear-regression", "inner.transform=kfo").initial_meta()
    assert meta.transform
    assert not built("linear-regression").initial_meta().transform


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_built(name):
    experiment = built("linear-regression", f"inner.transform={name}")
    transform = experiment.objective().inner.transform
    assert isinstance(transform, Identity) == (name == "none")
    assert isinstance(transform, KFO) == (name == "kfo")
    assert bool(experiment.initial_meta().transform) == (name != "none")


# Networks --------------------------------------------------------------------------------------------------


def test_linear_network_has_as_many_layers_as_its_depth():
    network = built("linear-regression", "model.depth=3", "tasks.dimension=7").network
    shapes = [tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(7, 7), (7, 7), (1, 7)]


def test_mlp_has_as_many_hidden_layers_as_its_depth():
    network = built("sinusoid", "model.depth=3", "model.width=5").network
    shapes = [tuple(value.shape) for name, value in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(5, 1), (5, 5), (5, 5), (1, 5)]


def test_cnn_has_as_many_blocks_as_its_depth_and_an_output_for_each_way(cifar_of_two_splits):
    network = build_cifar("model.depth=2", "model.width=6", "tasks.ways=4").network
    convolutions = [tuple(v.shape) for name, v in network.named_parameters() if name.endswith("conv.weight")]
    assert convolutions == [(6, 3, 3, 3), (6, 6, 3, 3)]
    assert next(v.shape[0] for name, v in network.named_parameters() if name == "head.0.weight") == 4


def test_network_too_deep_for_its_images_is_refused(cifar_of_two_splits):
    with pytest.raises(MamlError, match=r"model\.depth"):
        build_cifar("model.depth=9", "model.pool=4")


def test_dtype_is_that_of_parameters_and_inputs():
    experiment = built("sinusoid", "execution.dtype=float64")
    assert {value.dtype for value in experiment.initial_meta().model.values()} == {torch.float64}
    episode = experiment.distributions["train"].sample([torch.Generator()])
    assert episode.support_x.dtype == torch.float64


# Splits and data -------------------------------------------------------------------------------------------


def test_classes_of_a_split_that_is_not_used_may_be_missing(cifar_of_two_splits):
    experiment = build_cifar(splits=("train", "validation"))
    assert set(experiment.distributions) == {"train", "validation"}
    assert len(experiment.distributions["validation"].class_images) == 16


def test_classes_of_a_split_that_is_used_are_all_named_where_they_are_missing(cifar_of_two_splits):
    with pytest.raises(DataError) as caught:
        build_cifar(splits=("train", "test"))
    for name in published_classes("cifar_fs")["test"]:
        assert name in str(caught.value)


def test_more_ways_than_classes_is_refused_with_the_split(cifar_of_two_splits):
    with pytest.raises(DataError, match=r"tasks\.ways .*validation split.*at most 16, .* got 17"):
        build_cifar("tasks.ways=17", splits=("train", "validation"))


def test_more_images_of_a_class_than_there_are_is_refused(cifar_of_two_splits):
    with pytest.raises(DataError, match=r"at most 6, the images of class .* got 5 \+ 2"):
        build_cifar("tasks.shots=5")


def test_missing_pack_is_answered_with_the_commands_that_make_one():
    with pytest.raises(DataError, match="mamlcli data fetch omniglot, or: mamlcli data import omniglot"):
        built("omniglot-5way-1shot")


def test_folder_without_a_path_is_answered_with_the_command():
    with pytest.raises(DataError, match=r"mamlcli train folder tasks\.path=DIR"):
        built("folder")


@pytest.mark.parametrize("path", ["nothing", "nothing.npz"])
def test_path_that_is_not_there_is_refused(path):
    with pytest.raises(DataError, match=r"folder of class folders, or a pack, got .* does not exist"):
        built("folder", f"tasks.path={path}")


def test_folder_in_the_place_of_a_pack_is_called_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"expected a pack \(\.npz file\), got a folder"):
        build_cifar(f"tasks.path={tmp_path}")


def test_folder_is_read_without_a_pack(tmp_path):
    class_folders(tmp_path / "photos", [f"class{index}" for index in range(9)], num_images=4)
    tasks = load_recipe("folder", [f"tasks.path={tmp_path / 'photos'}", "tasks.image_size=10"])[1].tasks
    pack, where, skipped = load_image_pack(tasks)
    assert pack.images.shape == (36, 10, 10, 3)
    assert where == str(tmp_path / "photos")
    assert skipped == []


def test_split_seed_and_not_the_run_s_seed_chooses_the_classes_of_a_seeded_split(tmp_path):
    path = noise_pack(tmp_path / "p.npz", [f"class{index}" for index in range(20)])
    first, second, again = (
        built("folder", f"tasks.path={path}", "tasks.ways=2", *keys).distributions["train"]
        for keys in (["seed=0"], ["tasks.split_seed=1"], ["seed=1"])
    )
    chosen = [[int(members[0]) for members in tasks.class_images] for tasks in (first, second, again)]
    assert chosen[0] == chosen[2]
    assert chosen[0] != chosen[1]


def test_synthetic_splits_share_one_distribution():
    distributions = built("sinusoid", splits=("train", "test")).distributions
    assert distributions["train"] is distributions["test"]


def test_data_is_described_by_a_digest_of_its_own(tmp_path):
    names = [f"class{index}" for index in range(9)]
    digests = []
    for seed in (0, 0, 1):
        path = noise_pack(tmp_path / "p.npz", names, seed=seed)
        digests.append(built("folder", f"tasks.path={path}", "tasks.ways=2").data["digest"])
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


# The start -------------------------------------------------------------------------------------------------


def same(first, second):
    return all(torch.equal(first.flat()[name], value) for name, value in second.flat().items())


@pytest.mark.parametrize("transform", ["none", "kfo", "kfo-mlp"])
def test_same_seed_gives_the_same_initial_values(transform):
    override = f"inner.transform={transform}"
    first = built("sinusoid", override).initial_meta()
    assert first.flat()
    torch.manual_seed(99)  # global randomness plays no part
    assert same(first, built("sinusoid", override).initial_meta())
    assert not same(first, built("sinusoid", override, "seed=1").initial_meta())


def test_objective_takes_other_numbers_of_inner_steps():
    experiment = built("sinusoid", "inner.steps=3")
    assert experiment.objective().inner.num_inner_steps == 3
    assert experiment.objective(8).inner.num_inner_steps == 8


def test_execution_is_as_the_recipe_says():
    assert built("sinusoid", "execution.path=loop").execution(num_tasks=9, num_steps=1) == Execution("loop", 1)
    chunked = built("sinusoid", "execution.chunk=4", "outer.tasks=4")
    assert chunked.execution(num_tasks=9, num_steps=1) == Execution("explicit", 4)
    assert chunked.execution(num_tasks=2, num_steps=1) == Execution("explicit", 2)
    assert built("sinusoid").execution(num_tasks=9, num_steps=1) == Execution("explicit", 9)


def test_threads_are_as_the_recipe_says():
    loop = built("sinusoid", "execution.path=loop", "execution.threads=2")
    assert (torch.get_num_threads(), loop.num_threads) == (2, 2)


def test_explicit_path_gives_each_thread_its_own_tasks():
    torch.set_num_threads(2)
    sizes = ("model.width=300", "model.depth=3", "execution.threads=null", "outer.tasks=8")
    for _ in range(2):  # the second experiment has as many threads as the first
        experiment = built("sinusoid", *sizes)
        assert (torch.get_num_threads(), experiment.num_threads) == (1, 2)
        assert experiment.execution(num_tasks=8, num_steps=1).parallel == 2
    assert built("sinusoid", *sizes, "execution.threads=1").execution(num_tasks=8, num_steps=1).parallel == 1


def test_outer_loop_is_as_the_recipe_says():
    words = (
        "outer.optimizer=sgd",
        "outer.schedule=cosine",
        "outer.lr=0.5",
        "outer.clip_norm=2",
        "seed=4",
        "validation={every: 3, patience: 2}",
    )
    outer = built("sinusoid", *words).outer_loop()
    assert (outer.optimizer, outer.schedule, outer.lr, outer.clip_norm) == ("sgd", "cosine", 0.5, 2.0)
    assert (outer.validate_every, outer.patience, outer.seed, outer.num_outer_steps) == (3, 2, 4, 2)


def test_measured_choice_comes_before_auto_and_after_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shape = {"num_tasks": 8, "num_steps": 2}
    experiment = built("sinusoid", "outer.tasks=8", "inner.steps=2")
    auto = experiment.execution(**shape)
    chosen = Execution("batched", 3)
    store_tuned(experiment.tuning_key(**shape), TunedChoice(chosen))
    assert experiment.execution(**shape) == chosen
    assert experiment.execution(num_tasks=8, num_steps=0).path == auto.path  # nothing was measured for that
    assert built("sinusoid", "outer.tasks=8", "inner.steps=2", "execution.chunk=2").execution(**shape).chunk == 2
    assert built("sinusoid", "outer.tasks=8", "inner.steps=2", "model.width=41").execution(**shape) == auto
