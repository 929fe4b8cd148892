"""Gives the outer loop what it needs of an experiment: meta-gradients and meta-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mamlcli.engine.execution import Execution, MetaGradient, meta_gradients
from mamlcli.engine.multi_step import step_weights
from mamlcli.engine.objective import MetaParams
from mamlcli.engine.outer_loop import Gradients, Validate
from mamlcli.engine.sharing import ALONE, WorkerGroup, share_of
from mamlcli.recipe.schema import Recipe
from mamlcli.tasks.episodes import task_generator
from mamlcli.training.class_needs import used_splits
from mamlcli.training.experiment import Experiment
from mamlcli.training.graphs import graphs_of, require_graphs
from mamlcli.training.scoring import score_each, validation_scores, validation_tasks


def splits_of_training(recipe: Recipe) -> tuple[str, ...]:
    """Return the splits that meta-training, meta-validation and the final evaluation use."""
    return used_splits(recipe)


def training_execution(experiment: Experiment, num_workers: int = 1, num_runs: int = 1) -> Execution:
    """Return how the tasks of a meta-batch are run: one worker's share of it, or those of all runs together."""
    recipe = experiment.recipe
    num_tasks = len(share_of(recipe.outer.tasks, 0, num_workers)) * num_runs
    how = experiment.execution(num_tasks=num_tasks, num_steps=recipe.inner.steps)
    require_graphs(recipe, experiment.device, how)
    return how


def training_functions(
    experiments: Sequence[Experiment],
    how: Execution,
    group: WorkerGroup = ALONE,
    *,
    on_note: Callable[[str], None] | None = None,
) -> tuple[Gradients, Validate]:
    """Return (gradients, validate), the two functions that `engine.outer_loop.train` calls; all workers get the same.

    Args:
        experiments: of the runs that are trained, alike but for `seed` and `evaluation.seed`, in the order of the
            states' indices.
        how: how the tasks of a meta-batch are run.
        group: workers that share the tasks of one run.
        on_note: called with one line where meta-gradients are computed otherwise than `how` says.
    """
    experiment = experiments[0]
    recipe, objective, training = experiment.recipe, experiment.objective(), experiment.training
    assert training is not None, "an experiment that is trained is built with the split train"
    share, graphs = group.share(recipe.outer.tasks), graphs_of(recipe, experiment.device, how, on_note)

    def gradients(indices: Sequence[int], metas: Sequence[MetaParams], iteration: int) -> list[MetaGradient]:
        """Return the meta-gradient of each run on its tasks of an iteration."""
        # All tasks are drawn at once, each by the key that it has in its own run.
        seeds = [experiments[index].recipe.seed for index in indices]
        generators = [task_generator(seed, "train", iteration, task) for seed in seeds for task in share]
        episode = training.sample(generators)
        weights = step_weights(
            iteration, num_iterations=recipe.outer.multi_step_loss, num_inner_steps=recipe.inner.steps
        )
        of_share = meta_gradients(objective, metas, episode, how, step_weights=weights, graphs=graphs)
        return [group.all_reduce(gradient, recipe.outer.tasks) for gradient in of_share]

    def validate(indices: Sequence[int], metas: Sequence[MetaParams]) -> list[tuple[float, float | None]]:
        """Return loss and accuracy of each run in meta-validation."""
        of_runs = [experiments[index] for index in indices]
        return [validation_scores(scores) for scores in score_each(of_runs, metas, validation_tasks(recipe), group)]

    return gradients, validate
