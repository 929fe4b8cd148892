"""Small studies, run in this process, and results of studies made by hand."""

import json
from dataclasses import replace

from mamlcli.common.processes.pool import LocalExecutor
from mamlcli.common.statistics import Score
from mamlcli.recipe.changes import changed_recipe
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.runs.report import Protocol
from mamlcli.studies.sweeps.axes import depth_sweep
from mamlcli.studies.sweeps.cell_result import (
    CapacityRecord,
    CellResult,
    Collapse,
    CollapseRecord,
    CurvePoint,
    RateCandidate,
)
from mamlcli.studies.sweeps.cells import run_cells
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.sweeps.from_trained import write_start
from mamlcli.studies.sweeps.result import ClosedForm, Comparison, StudyResult
from mamlcli.studies.sweeps.run import cell_job, run_sweep
from mamlcli.studies.sweeps.scores import GridValue, StudyScores
from mamlcli.studies.sweeps.sweep import cells_of
from mamlcli.training.experiment import build
from mamlcli.training.functions import splits_of_training
from tests.helpers.together import small_recipe

TINY = (
    "tasks.dimension=3",
    "tasks.shots=8",
    "tasks.queries=8",
    "outer.iterations=8",
    "outer.tasks=2",
    "outer.checkpoint_every=2",
    "validation.every=4",
    "validation.tasks=5",
    "evaluation.tasks=12",
    "inner.steps=2",
    "inner.lr=0.5",
)


def tiny_sweep(*, num_seeds=2, depths=(1, 2), inner_lrs=(), overrides=()):
    _, recipe = load_recipe("linear-regression", [*TINY, *overrides])
    return depth_sweep("linear-regression", recipe, depths=depths, num_seeds=num_seeds, inner_lrs=inner_lrs)


def payloads(sweep, path):
    return {cell.name: cell_job(sweep, path, [cell], argv=[], num_threads=1).payload for cell in cells_of(sweep)}


def run_here(sweep, path, skip=()):
    """Run a study's cells in this process: the pool is tested apart, and importing torch again takes seconds."""
    open_study(path, sweep, "command")
    for name, payload in payloads(sweep, path).items():
        if name not in skip:
            run_cells(payload, lambda: False)


def collected(sweep, path):
    return run_sweep(sweep, path, executor=LocalExecutor(1), argv=[])


LOGISTIC = (*TINY, "execution.dtype=float64")


def recipe_of(name, *overrides):
    return load_recipe(name, [*LOGISTIC, *overrides])[1]


def scores(**means):
    return StudyScores({metric: Score(mean, 0.01) for metric, mean in means.items()}, "seeds")


def over_tasks(**means):
    return replace(scores(**means), over="tasks")


def comparison(a, b, mean, width=0.01):
    return Comparison(a, b, "accuracy", Score(mean, width), "seeds", 3)


def grid_result():
    values = [GridValue(depth, optimizer) for depth in (1, 2) for optimizer in ("none", "kfo")]
    cells = [
        CellResult(
            value,
            (0, 1, 2),
            (),
            0.1,
            (CurvePoint(0, scores(loss=0.5, accuracy=0.5)), CurvePoint(1, scores(loss=0.5, accuracy=0.6 + 0.05 * i))),
            10,
            5 * (i % 2),
        )
        for i, value in enumerate(values)
    ]
    protocol = Protocol(
        split="test",
        num_tasks=12,
        ways=2,
        shots=8,
        queries=8,
        per_class=False,
        inner_steps=1,
        batch_norm="none",
        seed=0,
    )
    return StudyResult(
        "meta-opt",
        "model.depth x inner.transform.name",
        "logistic",
        (0, 1, 2),
        "runs/meta-opt-1",
        False,
        None,
        tuple(cells),
        (comparison(values[1], values[0], 0.05), comparison(values[3], values[2], 0.02, 0.03)),
        protocol,
        chance_accuracy=0.5,
    )


def depth_result():
    result = grid_result()
    cells = tuple(replace(cell, value=depth) for depth, cell in zip((1, 2), result.cells[::2], strict=True))
    return replace(result, study="sweep-depth", axis="model.depth", cells=cells, comparisons=())


def full_result():
    """A result with every part that one can have."""
    record = CollapseRecord(20, 8, 12, 1e-8, 1e-7, 1e-4)
    parts = [
        {"candidates": (RateCandidate(0.1, "done", 0.5), RateCandidate(9.0, "diverged", None))},
        {"collapse": Collapse(8, record)},
        {"capacity": CapacityRecord(over_tasks(loss=0.1), {"chance": over_tasks(loss=0.7)}, 1000, 5, 4, 3000)},
        {"diverged_tasks": 0.25},
    ]
    cells = tuple(replace(cell, **part) for cell, part in zip(grid_result().cells, parts, strict=True))
    closed_form = ClosedForm(0.5, 3, 0.1, Score(0.2, 0.01), 0.3, 0.25, 0.045)
    references = {"posterior mean": over_tasks(loss=0.05)}
    return replace(
        grid_result(), cells=cells, references=references, failures=(("depth 3", "killed"),), closed_form=closed_form
    )


def small_sweep(num_seeds):
    return depth_sweep(
        "linear-regression",
        small_recipe("linear-regression", "tasks.dimension=3"),
        depths=(1, 2),
        num_seeds=num_seeds,
        inner_lrs=(),
    )


def start_of(shallow, num_layers, width=None, seed=3):
    changes = {"model.linear_layers": num_layers, "model.linear_width": width, "seed": seed}
    recipe = changed_recipe(shallow.recipe, changes, "test")
    run = RunDirectory.create(shallow.path.parent / f"start-{num_layers}-{width}-{seed}", recipe, "logistic")
    experiment = build(recipe, splits=splits_of_training(recipe))
    write_start(run, experiment, shallow)
    return run, experiment


def fake_run(folder, scores, key="accuracy"):
    """Write the metrics of a run with these meta-validation scores, and nothing else."""
    folder.mkdir(parents=True)
    records = [
        {"kind": "validation", "iteration": i, "loss": 1.0, "accuracy": None, key: score}
        for i, score in enumerate(scores)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
