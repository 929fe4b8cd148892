"""A run can be trained for more meta-iterations than it was made for; whether it can, and what is left out, is here."""

from __future__ import annotations

from mamlcli.common.commands import command
from mamlcli.common.errors import RunError
from mamlcli.engine.state import OuterLoop, TrainState
from mamlcli.recipe.schema import Recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.going_on import LENGTH
from mamlcli.runs.manifest import FINISHED
from mamlcli.training.checkpoints import checkpoint_path, load_checkpoint


def check_length(run: RunDirectory, recipe: Recipe) -> None:
    """Raise RunError unless a run can go on to another number of meta-iterations as if it had been made for it.

    Args:
        run: that goes on.
        recipe: its own, with another `outer.iterations`.
    """
    length, manifest = recipe.outer.iterations, run.manifest
    new = command("train", "--from", run.label, f"{LENGTH}={length}")
    from_weights = f"To start a new run from its weights: {new}"
    checkpoint = load_checkpoint(run, "last")
    if checkpoint is None:
        if manifest.status in FINISHED or manifest.iterations_done:
            expected, where = "the state that training goes on from", str(checkpoint_path(run, "last"))
            raise RunError(where, expected=expected, got="no such file", next_step=from_weights)
        return
    state = checkpoint[1]
    done = int(state["iteration"])
    if length < done:
        raise RunError(LENGTH, expected=f"at least {done}, the meta-iterations done", got=str(length))
    if done and recipe.outer.schedule == "cosine":
        why = "The outer learning rate of every iteration depends on how many there are in all"
        got = "outer.schedule=cosine"
        expected = "a constant outer learning rate to train a run for longer"
        raise RunError(LENGTH, expected=expected, got=got, why=why, next_step=from_weights)
    patience, every = recipe.validation.patience, recipe.validation.every
    has_no_patience = patience is not None and int(state["num_without_best"]) >= patience
    if state["is_stopped"] or (has_no_patience and every and done % every == 0 and length > done):
        why = "A run made for more iterations would have stopped there, too"
        got = f"one without a new best in {patience} validations"
        raise RunError(run.label, expected="a run that did not stop early", got=got, why=why, next_step=from_weights)


def extra_validation(run: RunDirectory, recipe: Recipe) -> str | None:
    """Return in words that the run's last validation, at its former end, chose its weights; None if it did not.

    A run made for more iterations has no validation there, and the weights that were best before are not kept.
    """
    every, checkpoint = recipe.validation.every, load_checkpoint(run, "last")
    if every is None or checkpoint is None:
        return None
    last, best = int(checkpoint[1]["last_validated"]), int(checkpoint[1]["best_iteration"])
    if not last % every or last != best or recipe.outer.iterations <= last:
        return None
    return f"iteration {last}: validated at the former end, and best so far; it stays among those chosen from"


def without_extra_validation(state: TrainState, outer: OuterLoop) -> TrainState:
    """Return a state without the validation at the end of a shorter training, where it did not choose the weights.

    Training then is, from there on, that of a run which was made for as many iterations.
    """
    every, last = outer.validate_every, state.last_validated
    if every and last % every and last < outer.num_outer_steps and state.best_iteration != last:
        state.last_validated = last - last % every
        state.num_without_best -= 1
    return state
