"""Every claim of the paper, from nothing to verdicts: what is run at each scale, and how results become evidence.

A scale is a list of sweeps; each is an ordinary study folder under the reproduction's own, so that a cut
reproduction continues where it was.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mamlcli import claims
from mamlcli.build import build
from mamlcli.cell_result import CellResult, FixedRateScores
from mamlcli.claims import ClaimResult, Study, value_key
from mamlcli.dry_run import dry_run
from mamlcli.errors import MamlError
from mamlcli.execution import Execution
from mamlcli.operators import movement_operator
from mamlcli.optimum import OperatorComparison, OptimumReport, compare_with_optimum
from mamlcli.recipe_changes import changed_recipe
from mamlcli.recipe_files import load_recipe
from mamlcli.rundir import RunDirectory
from mamlcli.study_result import StudyResult
from mamlcli.study_results import final_scores, mean_scores, read_report
from mamlcli.study_scores import METRICS, GridValue, Scores
from mamlcli.sweep import AxisValue, CellEnd, Sweep, cells_of, check_sweep, open_study, run_sweep
from mamlcli.tasks.base import sample_tasks
from mamlcli.tasks.packs import find_pack
from mamlcli.tasks.synthetic import LinearRegressionTasks
from mamlcli.trained import best_weights

AXIS = "model.depth x model.linear_layers x inner.transform.name"


# (depth, appended linear layers, transform)
CellValue = tuple[int, int, str]


@dataclass(frozen=True)
class Family:
    """A sweep of a reproduction.

    Attributes:
        key: of its study, as in "glyphs-maml".
        words: for tables.
        recipe: name of the shipped recipe.
        changes: dotted overrides, as on the command line.
        values: (depth, appended linear layers, transform) of each cell.
        inner_lrs: candidates for the inner learning rate.
        pack: that must be there, or None.
        more: further dotted keys that go with a depth.
        adapts: whether transforms are adapted in the inner loop.
    """

    key: str
    words: str
    recipe: str
    changes: tuple[str, ...]
    values: tuple[CellValue, ...]
    inner_lrs: tuple[float, ...]
    pack: str | None = None
    more: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    adapts: bool = False


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        name: "smoke", "laptop" or "paper".
        words: what it is, one sentence.
        num_seeds: of every cell.
        families: what is run.
        depths: of C2, C5 and C6.
        layers: appended, of C3.
        anil_layers: appended, of C6.
        optimizers: of C4.
        deeper: for each synthetic study the deeper value of C1.
        needs_packs: whether a missing pack is an error; otherwise its family is left out, and the report says so.
    """

    name: str
    words: str
    num_seeds: int
    families: tuple[Family, ...]
    depths: tuple[int, ...]
    layers: tuple[int, ...]
    anil_layers: tuple[int, ...]
    optimizers: tuple[str, ...]
    deeper: Mapping[str, int]
    needs_packs: bool = False


# Tasks on which the operator of all inner steps together is fitted.
NUM_OPERATOR_TASKS = 600

# One transform is looked at over depths and under ANIL; all are at depth 1.
OPTIMIZER = "kfo"

_GLYPHS = ("glyphs-5way-1shot", "glyphs-5way-1shot")
_OMNIGLOT = ("omniglot-5way-1shot", "omniglot-5way-1shot")

_LINREG_VALUES = ((1, 0, "none"), (2, 0, "none"), (1, 0, "dense"), (1, 0, "kfo"))


def _maml_values(depths: Sequence[int], layers: Sequence[int], optimizers: Sequence[str]) -> tuple[CellValue, ...]:
    values = [
        *((depth, 0, "none") for depth in depths),
        *((1, n, "none") for n in layers),
        *((1, 0, name) for name in optimizers),
        *((depth, 0, OPTIMIZER) for depth in depths),
    ]
    return tuple(dict.fromkeys(values))


def _image_families(
    source: str,
    recipes: tuple[str, str],
    changes: Sequence[str],
    lrs: tuple[float, ...],
    *,
    maml: tuple[CellValue, ...],
    anil: tuple[CellValue, ...],
    pack: str | None,
    more: Mapping[int, Mapping[str, object]] | None = None,
    adapts: bool = False,
) -> list[Family]:
    """Return the families of one image source under MAML and ANIL, each with its recipe."""
    both = (("maml", "MAML", maml, recipes[0]), ("anil", "ANIL", anil, recipes[1]))
    return [
        Family(f"{source}-{key}", f"{source}, {name}", recipe,
               (*changes, "validation.metric=loss", f"inner.algorithm={key}"), values, lrs, pack, more or {}, adapts)
        for key, name, values, recipe in both
    ]  # fmt: skip


def _synthetic_families(
    linreg: int, logistic: int, tasks: int, linreg_lrs: tuple[float, ...], logistic_lrs: tuple[float, ...]
) -> list[Family]:
    amounts = (f"evaluation.tasks={tasks}", f"validation.tasks={min(tasks, 200)}", "validation.metric=loss")
    return [
        Family("linear-regression", "linear regression", "linear-regression",
               (f"outer.iterations={linreg}", f"validation.every={linreg}", *amounts), _LINREG_VALUES, linreg_lrs),
        Family("logistic", "logistic regression", "logistic",
               (f"outer.iterations={logistic}", f"validation.every={logistic}", *amounts),
               ((1, 0, "none"), (3, 0, "none")), logistic_lrs),
    ]  # fmt: skip


def smoke() -> Scale:
    """Return the smallest scale: it shows that everything runs, and decides only what is exact."""
    depths, layers, optimizers = (1, 2), (1,), ("meta-sgd",)
    changes = ("outer.iterations=2", "outer.tasks=2", "validation.every=2", "validation.tasks=4", "evaluation.tasks=8")
    values, anil = _maml_values(depths, layers, optimizers), _maml_values(depths, layers, ())
    return Scale(
        "smoke", "a few meta-iterations, two seeds: shows that everything runs; decides only what is exact",
        num_seeds=2,
        families=(
            *_synthetic_families(4, 4, 40, (0.2,), (0.5,)),
            *_image_families("glyphs", _GLYPHS, (*changes, "model.width=8"), (0.4,), maml=values,
                             anil=anil, pack=None),
        ),
        depths=depths, layers=layers, anil_layers=layers, optimizers=(*optimizers, OPTIMIZER),
        deeper={"linear-regression": 2, "logistic": 3},
    )  # fmt: skip


def laptop() -> Scale:
    """Return the scale of bare `make reproduce`: two cores, under 25 minutes, no download."""
    depths, layers, anil_layers = (1, 2, 4), (1, 2), (1,)
    optimizers = ("meta-sgd", "meta-curvature", "kfo-mlp")
    changes = ("outer.iterations=150", "outer.tasks=4", "validation.every=150", "evaluation.tasks=200")
    maml, anil = _maml_values(depths, layers, optimizers), _maml_values(depths, anil_layers, ())
    lrs = (0.1, 0.4)
    return Scale(
        "laptop", "short meta-training of small networks, three seeds, two cores",
        num_seeds=3,
        families=(
            *_synthetic_families(1000, 300, 400, (0.2, 0.5, 1.2), (0.5, 2.0, 8.0)),
            *_image_families("glyphs", _GLYPHS, changes, lrs, maml=maml, anil=anil, pack=None),
            # At the recipe's own rate alone: with both rates the whole would take longer than a scale for laptops may.
            *_image_families("omniglot", _OMNIGLOT, changes, (0.4,), maml=maml, anil=anil, pack="omniglot"),
        ),
        depths=depths, layers=layers, anil_layers=anil_layers, optimizers=(*optimizers, OPTIMIZER),
        deeper={"linear-regression": 2, "logistic": 3},
    )  # fmt: skip


def paper() -> Scale:
    """Return the scale of the release's settings: 5 ways, 5 shots, 5 queries, 5 inner steps, 16 tasks, for a GPU.

    Networks and lengths are the release's (paper's code, one commit, 2021), transforms are adapted in the inner loop.
    Differs from it: inputs in [0, 1] for mini-ImageNet too, so inner rates are chosen from candidates; its heads use
    the global mean, because a Kronecker factor of its flattened 14,112 features would have 200 million entries;
    Omniglot has Vinyals' split.
    """
    depths, layers = (1, 2, 3, 4), (1, 2, 3)
    values = _maml_values(depths, layers, ("meta-sgd", "meta-curvature", "kfo-mlp"))
    anil = _maml_values(depths, layers, ())
    omniglot = _image_families(
        "omniglot", ("omniglot-5way-1shot-full", "omniglot-5way-1shot-full"),
        ("tasks.shots=5", "tasks.queries=5", "inner.steps=5", "outer.tasks=16", "outer.iterations=20000"),
        (0.1, 0.4), maml=values, anil=anil, pack="omniglot", adapts=True,
    )  # fmt: skip
    cifar = _image_families(
        "cifar-fs", ("cifar-fs-5way-5shot", "cifar-fs-5way-5shot-anil"), (), (0.03, 0.1, 0.3), maml=values,
        anil=anil, pack="cifar-fs", adapts=True,
    )  # fmt: skip
    pools = {depth: {"model.pool": max(4 // depth, 1)} for depth in depths}
    mini = _image_families(
        "mini-imagenet", ("mini-imagenet-5way-5shot", "mini-imagenet-5way-5shot"),
        ("tasks.queries=5", "model.head=mean", "outer.lr=0.0005", "outer.iterations=20000", "outer.tasks=16"),
        (0.01, 0.05, 0.2), maml=values, anil=anil, pack="mini-imagenet", more=pools, adapts=True,
    )  # fmt: skip
    return Scale(
        "paper", "the release's protocol and lengths (differences are named in the documentation of this scale), five "
        "seeds, for a GPU",
        num_seeds=5,
        families=(
            *_synthetic_families(5000, 3000, 600, (0.1, 0.2, 0.5, 1.0, 1.2, 1.3), (0.5, 1.0, 2.0, 4.0, 8.0)),
            *omniglot, *cifar, *mini,
        ),
        depths=depths, layers=layers, anil_layers=layers,
        optimizers=("meta-sgd", "meta-curvature", "kfo-mlp", OPTIMIZER),
        deeper={"linear-regression": 2, "logistic": 3}, needs_packs=True,
    )  # fmt: skip


SCALES: dict[str, Callable[[], Scale]] = {"smoke": smoke, "laptop": laptop, "paper": paper}


def sweep_of(family: Family, num_seeds: int, device: str | None = None) -> Sweep:
    """Return the sweep of a family."""
    overrides = [*family.changes, *([f"execution.device={device}"] if device else [])]
    name, recipe = load_recipe(family.recipe, overrides)
    values = tuple(
        AxisValue(
            GridValue(depth, optimizer, layers),
            value_key(depth, layers, optimizer),
            {
                "model.depth": depth,
                "model.linear_layers": layers,
                **family.more.get(depth, {}),
                "inner.transform": {"name": optimizer, "adapted": family.adapts and optimizer != "none"},
            },
            f"reproduce: {family.key}",
        )
        for depth, layers, optimizer in family.values
    )
    # Collapsing is about appended layers; a linear model's own depth is not.
    has_layers = any(layers for _, layers, _ in family.values)
    return Sweep(
        "reproduce", AXIS, name, recipe, values, num_seeds=num_seeds, inner_lrs=family.inner_lrs,
        with_collapse=has_layers,
    )  # fmt: skip


def present_families(scale: Scale) -> tuple[list[Family], list[str]]:
    """Return the families whose data is there, and what is left out.

    Raises:
        MamlError: the scale needs packs that are missing; all are named, with the commands that get them.
    """
    absent = [family for family in scale.families if family.pack and find_pack(family.pack) is None]
    packs = list(dict.fromkeys(str(family.pack) for family in absent))
    if scale.needs_packs and packs:
        ways = {"mini-imagenet": "mamlcli data import mini-imagenet FOLDER"}
        commands = "; ".join(ways.get(pack, f"mamlcli data fetch {pack}") for pack in packs)
        raise MamlError(f"--scale {scale.name}", expected="packs of every data set it uses",
                        got=f"none of {', '.join(packs)}", next_step=f"Run: {commands}")  # fmt: skip
    left_out = [f"{pack}: its pack is not here (mamlcli data fetch {pack})" for pack in packs]
    return [family for family in scale.families if family not in absent], left_out


def cost_s(families: Sequence[Family], num_seeds: int, num_workers: int, device: str | None) -> float:
    """Return a rough cost of the families in seconds: every value measured on a few meta-iterations, for its cells."""
    total = 0.0
    for family in families:
        cells = cells_of(sweep_of(family, num_seeds, device))
        for label in dict.fromkeys(cell.value.label for cell in cells):
            own = [cell for cell in cells if cell.value.label == label]
            cost = dry_run(own[0].recipe)
            total += (cost.training_s + cost.evaluation_s) * len(own)
    return total / num_workers


def run_families(
    families: Sequence[Family], path: Path, *, num_seeds: int, num_workers: int, argv: Sequence[str], command: str,
    device: str | None, on_family: Callable[[Family, Sweep], None], on_end: Callable[[CellEnd], None],
) -> tuple[list[Study], list[str]]:  # fmt: skip
    """Run what is missing of every family and return the studies and the failures, in words.

    Raises:
        Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    studies, failures = [], []
    sweeps = [(family, sweep_of(family, num_seeds, device)) for family in families]
    for _, sweep in sweeps:
        check_sweep(sweep)
    for family, sweep in sweeps:
        open_study(path / family.key, sweep, command)
        on_family(family, sweep)
        outcome = run_sweep(sweep, path / family.key, num_workers=num_workers, argv=argv, on_end=on_end)
        failures += [f"{family.words}, {label}: {reason}" for label, reason in outcome.failures]
        studies.append(_study(family, outcome.result, num_seeds, fixed_rate=sweep.recipe.inner.lr))
    return studies, failures


def _study(family: Family, result: StudyResult, num_seeds: int, *, fixed_rate: float) -> Study:
    """Read the scores of each seed; values of which a seed is missing are left out."""
    scores: dict[str, dict[str, claims.Array]] = {"loss": {}, "accuracy": {}}
    operators: dict[str, list[OptimumReport]] = {}
    cells = []
    for cell in result.cells:
        if len(cell.seeds) < num_seeds:
            cells.append(cell)
            continue
        key = value_key(cell.grid.depth, cell.grid.layers or 0, cell.grid.optimizer)
        runs = [RunDirectory.open(Path(run)) for run in cell.run_dirs]
        finals = [final_scores(read_report(run)) for run in runs]
        for metric, by_value in scores.items():
            if metric in finals[0]:
                by_value[key] = np.array([final.mean(metric) for final in finals], dtype=np.float64)
        if family.key == "linear-regression":
            operators[key] = [operator_report(run) for run in runs]
        cells.append(replace(cell, at_fixed_rate=_at_rate(cell, fixed_rate)))
    return Study(family.key, family.words, scores, replace(result, cells=tuple(cells)), operators)


def _at_rate(cell: CellResult, rate: float) -> FixedRateScores:
    """Return rate and final scores, over seeds, of a cell's runs at another inner rate; no scores if they diverged."""
    paths = [Path(run) for run in cell.run_dirs]
    fixed = [path.with_name(path.name.replace(f"-lr{cell.inner_lr:g}-seed", f"-lr{rate:g}-seed")) for path in paths]
    if not all(RunDirectory(path).has_report for path in fixed):
        return FixedRateScores(rate, None)
    finals = [final_scores(read_report(RunDirectory(path))) for path in fixed]
    scores = [
        Scores({metric: final.values[metric] for metric in METRICS if metric in final}, final.over) for final in finals
    ]
    return FixedRateScores(rate, mean_scores(scores))


def operators_from_json(value: Mapping[str, Any]) -> OptimumReport:
    """Return the learned operators in the content of operators.json."""
    operators = {
        name: operator and OperatorComparison(**{**operator, "operator": np.asarray(operator["operator"])})
        for name, operator in value.items()
        if name != "all_steps_explained"
    }
    return OptimumReport(**operators, all_steps_explained=value["all_steps_explained"])


def operator_report(run: RunDirectory) -> OptimumReport:
    """Return a linear-regression run's learned operators beside the best one; kept with the run in operators.json."""
    file = run.path / "operators.json"
    if file.is_file():
        return operators_from_json(json.loads(file.read_text()))
    recipe = run.recipe
    experiment = build(
        changed_recipe(recipe, {"execution.dtype": "float64", "execution.device": "cpu"}, "operators"),
        splits=(recipe.evaluation.split,),
    )
    meta, _ = best_weights(run, experiment)
    meta = type(meta)(
        {name: value.double() for name, value in meta.model.items()},
        {name: value.double() for name, value in meta.transform.items()},
    )
    objective = experiment.objective()
    distribution = experiment.distributions[recipe.evaluation.split]
    assert isinstance(distribution, LinearRegressionTasks)
    episodes = (
        sample_tasks(
            distribution, seed=recipe.evaluation.seed, split="operators", iteration=0, indices=range(i, i + 100)
        )
        for i in range(0, NUM_OPERATOR_TASKS, 100)
    )
    report = compare_with_optimum(
        objective, meta, distribution, episodes, Execution("batched", 100),
        total=movement_operator(objective.network, meta, objective.inner),
    )  # fmt: skip
    value = json.loads(json.dumps(asdict(report), default=lambda item: item.tolist()))
    run.write_json("operators.json", value)
    return report


def decide_claims(scale: Scale, studies: Sequence[Study]) -> list[ClaimResult]:
    """Decide every claim."""
    by_key = {study.key: study for study in studies}
    synthetic = [by_key[key] for key in scale.deeper if key in by_key]
    maml = [study for study in studies if study.key.endswith("-maml")]
    anil = [study for study in studies if study.key.endswith("-anil")]
    pairs = {key: (value_key(depth), value_key(1)) for key, depth in scale.deeper.items()}
    return [
        claims.c1(synthetic, pairs),
        claims.c2(maml, scale.depths),
        claims.c3(maml, scale.layers),
        claims.c4(maml, scale.optimizers),
        claims.c5(maml, scale.depths, OPTIMIZER),
        claims.c6(anil, scale.depths, scale.anil_layers, OPTIMIZER),
        claims.c7(by_key.get("linear-regression")),
    ]


def reproduction_to_json(scale: Scale, results: Sequence[ClaimResult], studies: Sequence[Study]) -> dict[str, object]:
    """Return the machine-readable form: scale, claims with verdict and evidence, studies."""
    return {
        "scale": scale.name,
        "num_seeds": scale.num_seeds,
        "claims": [
            {"id": result.id, "statement": result.statement, "verdict": result.verdict, "evidence": evidence(result)}
            for result in results
        ],
        "studies": {study.key: study.result.to_json() for study in studies},
    }


def evidence(result: ClaimResult) -> dict[str, object]:
    """Return what a verdict rests on, primitives."""
    return {
        "rule": result.rule,
        "predictions": [
            {
                "name": decision.prediction.name,
                "predicted_sign": decision.prediction.predicted_sign,
                "differences": decision.prediction.differences.tolist(),
                "mean": decision.mean,
                "half_width": decision.half_width,
                "level": decision.level,
                "p_value": decision.p_value,
                "verdict": decision.verdict,
                "seeds_needed": decision.seeds_needed,
            }
            for decision in result.decisions
        ],
        "checks": [{**asdict(check), "holds": check.holds} for check in result.checks],
        "missing": result.missing,
        "notes": result.notes,
    }


def num_cells(families: Sequence[Family], num_seeds: int) -> int:
    """Return the runs of all families together."""
    return len(list(itertools.chain.from_iterable(cells_of(sweep_of(family, num_seeds)) for family in families)))


def runs_of(study: Study) -> list[RunDirectory]:
    """Return the runs that a study's scores were read from."""
    return [RunDirectory.open(Path(run)) for cell in study.result.cells for run in cell.run_dirs]


def wall_s(studies: Sequence[Study]) -> float:
    """Return the seconds of computing in all runs of the studies, candidates for inner rates included."""
    folders = [folder for study in studies for folder in (Path(study.result.directory) / "cells").glob("*")]
    manifests = [RunDirectory.open(folder).manifest for folder in folders if (folder / "manifest.json").is_file()]
    return sum(float(manifest.get("wall_s", 0.0)) for manifest in manifests)


def candidates(study: Study) -> list[float]:
    """Return the inner learning rates that were tried."""
    tried = next((cell.candidates for cell in study.result.cells if cell.candidates), ())
    return [float(candidate.inner_lr) for candidate in tried]
