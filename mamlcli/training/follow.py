"""The part of a run that workers other than 0 have: their share of all that is computed. They write nothing."""

from __future__ import annotations

from typing import Any

import torch

from mamlcli.common.errors import Interrupted, NonFiniteError, RunError
from mamlcli.common.processes.signals import interruption_flag
from mamlcli.engine.outer_loop import train
from mamlcli.engine.sharing import WorkerGroup
from mamlcli.engine.state import restore_state
from mamlcli.recipe.files import recipe_from_tree
from mamlcli.training.experiment import Experiment, build
from mamlcli.training.functions import splits_of_training, training_functions
from mamlcli.training.placement import resolve_device
from mamlcli.training.scoring import score_at_end


def follow_run(group: WorkerGroup) -> None:
    """Do a worker's part of the run that worker 0 leads in `train_runs`; nothing if there is none.

    Raises:
        Interrupted, NonFiniteError: as in worker 0, at the same iteration.
        WorkerError: another worker is gone.
        DataError, DeviceError, RunError: this machine has not what the first one has.
    """
    plan = group.follow(dict)
    if plan is None:
        return
    experiment = _experiment(plan, group)
    group.connect(experiment.device)
    torch.set_num_threads(plan["threads"])
    outer = experiment.outer_loop()
    state = restore_state(experiment.initial_meta(), outer, *plan["state"])
    with interruption_flag(second_ends=False) as is_asked:
        is_interrupted = group.agree(is_asked)
        for _, record in train({0: state}, {0: outer}, *training_functions([experiment], plan["how"], group)):
            if isinstance(record, NonFiniteError):
                raise record
            if is_interrupted():
                raise Interrupted("interrupted")
        score_at_end(experiment, [], group)
        if is_interrupted():
            raise Interrupted("interrupted")


def _experiment(plan: dict[str, Any], group: WorkerGroup) -> Experiment:
    """Build worker 0's experiment here, and make sure that it is the same."""
    tree = plan["recipe"]
    tree["execution"]["device"] = plan["device"]
    recipe = recipe_from_tree(tree, where="worker 0")
    group.use_device(resolve_device(plan["device"]))
    experiment = build(recipe, splits=splits_of_training(recipe))
    if (digest := experiment.data.get("digest")) != plan["digest"]:
        raise RunError(
            "tasks",
            expected=f"the data of worker 0 (digest {plan['digest']})",
            got=f"other data (digest {digest})",
            next_step="Copy its pack to this machine",
        )
    return experiment
