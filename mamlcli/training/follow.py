"""Does a worker's part of a run that several share: worker 0 says what the run is, the others write nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mamlcli.common.errors import Interrupted, NonFiniteError, RunError
from mamlcli.common.processes.signals import interruption_flag
from mamlcli.engine.execution import Execution
from mamlcli.engine.outer_loop import train
from mamlcli.engine.sharing import WorkerGroup
from mamlcli.engine.state import Primitive, TrainState, restore_state
from mamlcli.recipe.files import recipe_from_tree, recipe_to_tree
from mamlcli.recipe.schema import Recipe
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.functions import splits_of_training, training_functions
from mamlcli.training.placement import resolve_device, use_threads
from mamlcli.training.scoring import score_at_end


@dataclass(frozen=True)
class SharedRun:
    """What worker 0 tells the others of a run, so that all of them compute the same.

    Attributes:
        recipe: resolved.
        device: the kind of device, "cpu" or "cuda".
        digest: of the data; None for tasks that are generated.
        state: what training goes on from, as `TrainState.export` gives it.
        how: how the tasks of a meta-batch are run.
        threads: of one operation.
    """

    recipe: Recipe
    device: str
    digest: str | None
    state: tuple[dict[str, Tensor], dict[str, Primitive]]
    how: Execution
    threads: int

    @classmethod
    def of(cls, experiment: Experiment, state: TrainState, how: Execution) -> SharedRun:
        """Return what to tell of a run that goes on from this state, with the threads that are set now."""
        recipe, device, digest = experiment.recipe, experiment.device.type, experiment.data_digest
        return cls(recipe, device, digest, state.export(), how, torch.get_num_threads())


def follow_run(group: WorkerGroup) -> None:
    """Do a worker's part of the run that worker 0 leads in `train_runs`; nothing if there is none.

    Raises:
        Interrupted, NonFiniteError: as in worker 0, at the same iteration.
        WorkerError: another worker is gone.
        DataError, DeviceError, RunError: this machine has not what the first one has.
    """
    shared = group.follow(SharedRun)
    if shared is None:
        return
    experiment = _experiment(shared, group)
    group.connect(experiment.device)
    experiment.use_threads()
    use_threads(shared.threads)
    outer = experiment.outer_loop()
    state = restore_state(experiment.initial_meta(), outer, *shared.state)
    with interruption_flag(second_ends=False) as is_asked:
        is_interrupted = group.agree(is_asked)
        for _, record in train({0: state}, {0: outer}, *training_functions([experiment], shared.how, group)):
            if isinstance(record, NonFiniteError):
                raise record
            if is_interrupted():
                raise Interrupted("interrupted")
        score_at_end([experiment], [], group)
        if is_interrupted():
            raise Interrupted("interrupted")


def _experiment(shared: SharedRun, group: WorkerGroup) -> Experiment:
    """Build worker 0's experiment here, and make sure that it is the same."""
    tree = recipe_to_tree(shared.recipe)
    tree["execution"]["device"] = shared.device
    recipe = recipe_from_tree(tree, where="worker 0")
    group.use_device(resolve_device(shared.device))
    experiment = build(recipe, splits=splits_of_training(recipe))
    if (digest := experiment.data_digest) != shared.digest:
        raise RunError(
            "tasks",
            expected=f"the data of worker 0 (digest {shared.digest})",
            got=f"other data (digest {digest})",
            next_step="Copy its pack to this machine",
        )
    return experiment
