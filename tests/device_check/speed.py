"""Memory over iterations, meta-gradients beside the peers, and the time of an iteration of two recipes."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch

from mamlcli.bench.cases import CASES, Case, problem_of
from mamlcli.bench.implementations import Agreement, Implementation, implementations, prepared
from mamlcli.bench.timing import Runner, measure_rounds, spread
from mamlcli.common.errors import MamlError
from mamlcli.common.machine import synchronize
from mamlcli.engine.execution import meta_gradients
from mamlcli.engine.outer_loop import train
from mamlcli.engine.state import new_state
from mamlcli.recipe.files import load_recipe
from mamlcli.recipe.tasks_schema import ImageTasks
from mamlcli.tasks.episodes import task_generator
from mamlcli.tasks.fewshot import FewShotTasks
from mamlcli.training.experiment import Experiment, build, build_without_data
from mamlcli.training.functions import training_execution, training_functions
from mamlcli.training.graphs import graphs_of
from mamlcli.training.tf32 import use_tf32
from tests.device_check.parts import Part, Setting
from tests.helpers.benches import TINY_CASE

TF32 = Implementation("mamlcli, TF32", ("execution.tf32=true",))

# Bytes that an allocator may round by; a tensor that is kept at every iteration is more.
_FLAT_BYTES = 1 << 20


# Memory -----------------------------------------------------------------------------------------------------------


def memory(part: Part, setting: Setting) -> None:
    """Compare the device's memory after a few iterations and after many; the part holds where it is flat."""
    if not setting.is_cuda:
        part.unseen.append("memory over iterations: that of a GPU is counted, and there is none")
        return
    part.holds = True
    for name, extra in (("CUDA graphs", ()), ("no CUDA graphs", ("execution.cuda_graphs=off",))):
        device = str(setting.device)
        # Two sizes of meta-batch, in turn.
        large, small = (problem_of(CASES["cifar-fs"], device=device, num_tasks=n, extra=extra) for n in (16, 5))
        objective, how = large.experiment.objective(), large.experiment.execution(num_tasks=16, num_steps=1)
        graphs, counts = graphs_of(large.experiment.recipe, setting.device, how), []
        for iteration in range(40):
            problem = small if iteration % 2 else large
            meta_gradients(objective, [problem.meta], problem.episode, how, graphs=graphs)
            if iteration in (9, 39):
                synchronize(setting.device)
                counts.append((torch.cuda.memory_allocated(setting.device), torch.cuda.memory_reserved(setting.device)))
        growth = [after - before for before, after in zip(*counts, strict=True)]
        is_flat = max(growth) <= _FLAT_BYTES
        part.holds = part.holds and is_flat
        part.rows.append({"what": name, "allocated": counts[-1][0], "reserved": counts[-1][1], "growth": growth})
        mb = [count / 2**20 for count in counts[-1]]
        part.lines.append(
            f"{name}: {mb[0]:.0f} MB allocated, {mb[1]:.0f} MB reserved; from iteration 10 to 40 {growth[0]:+d} and "
            f"{growth[1]:+d} bytes: {'flat' if is_flat else 'NOT FLAT'}"
        )
        if graphs and graphs.reason:
            part.lines.append(f"not replayed: {graphs.reason}")


# Beside the peers -------------------------------------------------------------------------------------------------


def bench(part: Part, setting: Setting) -> None:
    """Time one meta-gradient of each case, ours and the installed peers', each checked first."""
    chosen = [CASES[name] for name in ("omniglot", "cifar-fs", "kfo", "logistic")]
    for case in [TINY_CASE] if setting.is_small else chosen:
        if setting.is_over():
            part.unseen.append(f"bench of {case.name}: the time of the part was over")
            continue
        _bench_case(part, setting, case)


def _bench_case(part: Part, setting: Setting, case: Case) -> None:
    device = str(setting.device)
    wanted, notes = implementations(case, device=device)
    part.unseen += [note for note in notes if note not in part.unseen]
    agreement = Agreement.of(case, device=device, num_tasks=4)
    runners, differences = [], {}
    for implementation in wanted:
        try:
            differences[implementation.name] = agreement.differences(implementation)
            problem = problem_of(case, device=device, extra=implementation.extra)
            runners.append(
                Runner(implementation, prepared(implementation, problem), setting.device, torch.get_num_threads())
            )
        except Exception as error:  # a peer that does not run here is left out
            part.unseen.append(f"{case.name}, {implementation.name}: {type(error).__name__}: {error}")
    measure_rounds(runners, repeats=1 if setting.is_small else 3, budget_s=20.0)
    if setting.is_cuda:  # by itself: the process computes with TF32 or without
        problem = problem_of(case, device=device, extra=TF32.extra)
        runners.append(Runner(TF32, prepared(TF32, problem), setting.device, torch.get_num_threads()))
        measure_rounds(runners[-1:], repeats=3, budget_s=5.0)
        use_tf32(False)
    peers = [spread(runner.samples).median for runner in runners if not runner.implementation.is_ours]
    for runner in runners:
        name, seconds = runner.implementation.name, spread(runner.samples).median
        found = differences.get(name)
        row = {"case": case.name, "implementation": name, "seconds": seconds}
        row |= {"float64": found.float64, "float32": found.float32} if found else {}
        row |= {"against_fastest_peer": min(peers) / seconds} if peers else {}
        part.rows.append(row)
        beside = f", {min(peers) / seconds:.2f} x the fastest peer" if peers and runner.implementation.is_ours else ""
        checked = f", float64 {found.float64:.0e}, float32 {found.float32:.0e}" if found else ""
        part.lines.append(f"{case.name}: {name}: {1e3 * seconds:.3f} ms{beside}{checked}")


# Iterations of recipes --------------------------------------------------------------------------------------------

_SHAPES = {"omniglot-5way-1shot-full": (1, 28, 28), "cifar-fs-5way-5shot": (3, 32, 32)}

_SMALL = ("outer.tasks=2", "model.width=4", "model.depth=1", "inner.steps=1", "execution.threads=1")


def iterations(part: Part, setting: Setting) -> None:
    """Time whole meta-iterations of two recipes: tasks drawn, meta-gradient, outer step, record."""
    ways: dict[str, tuple[str, ...]] = {"": ()}
    if setting.is_cuda:
        ways |= {"no CUDA graphs": ("execution.cuda_graphs=off",), "TF32": ("execution.tf32=true",)}
    for name in _SHAPES:
        for words, extra in ways.items():
            if setting.is_over():
                part.unseen.append(f"iteration of {name}, {words or 'as shipped'}: the time of the part was over")
                continue
            keys = (f"execution.device={setting.device}", *extra, *(_SMALL if setting.is_small else ()))
            experiment, data = _experiment(name, keys)
            notes: list[str] = []
            row = {"recipe": name, "how": words or "as shipped", "data": data, **_timed(experiment, setting, notes)}
            part.rows.append(row)
            part.lines.append(
                f"{name}, {row['how']}: {row['ms']:.2f} ms a meta-iteration, of which {row['draw_ms']:.2f} draw its "
                f"tasks ({data}; median of {row['iterations']}); {row['execution']}"
            )
            part.lines += map(str, notes)
    if setting.is_cuda:
        use_tf32(False)


def _experiment(name: str, keys: tuple[str, ...]) -> tuple[Experiment, str]:
    """Return a recipe's experiment on its data, or on images of noise where its pack is not here."""
    _, recipe = load_recipe(name, keys)
    assert isinstance(recipe.tasks, ImageTasks)
    try:
        return build(recipe, splits=("train",)), "its data"
    except MamlError:
        pass
    experiment = build_without_data(recipe, input_shape=_SHAPES[name], num_outputs=5)
    shape, generator = (64 * 20, *_SHAPES[name]), torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    tasks = FewShotTasks(
        noise.to(experiment.device),
        tuple(torch.arange(20 * label, 20 * label + 20) for label in range(64)),
        ways=recipe.tasks.ways,
        shots=recipe.tasks.shots,
        queries=recipe.tasks.queries,
        rotations=recipe.tasks.rotations,
    )
    return replace(experiment, training=tasks), "images of noise: its pack is not here"


def _timed(experiment: Experiment, setting: Setting, notes: list[str]) -> dict[str, object]:
    """Return medians over meta-iterations, after some for warmth, and how tasks were run; add notes of that."""
    experiment.use_threads()
    assert experiment.training is not None
    warm, most, budget_s = (1, 2, 1.0) if setting.is_small else (5, 200, 6.0)
    how = training_execution(experiment)
    gradients, validate = training_functions([experiment], how, on_note=notes.append)
    outer = replace(experiment.outer_loop(), validate_every=None, num_outer_steps=warm + most)
    seconds, began = [], time.perf_counter()
    until = began + budget_s
    for _ in train({0: new_state(experiment.initial_meta(), outer)}, {0: outer}, gradients, validate):
        synchronize(experiment.device)
        now = time.perf_counter()
        seconds.append(now - began)
        began = now
        if now > until and len(seconds) > warm:
            break
    drawn = []
    for iteration in range(5):
        generators = [task_generator(0, "train", iteration, task) for task in range(experiment.recipe.outer.tasks)]
        began = time.perf_counter()
        experiment.training.sample(generators)
        synchronize(experiment.device)
        drawn.append(time.perf_counter() - began)
    return {
        "ms": 1e3 * statistics.median(seconds[warm:]),
        "draw_ms": 1e3 * statistics.median(drawn),
        "iterations": len(seconds) - warm,
        "execution": f"{how.path}, {how.chunk} tasks at a time{', CUDA graphs' if how.graphs else ''}",
    }
