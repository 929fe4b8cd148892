"""Meta-gradients on a device against the CPU's plain loop in float64: all paths, algorithms and transforms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mamlcli.bench.implementations import difference_of_norms, strict_difference
from mamlcli.engine.execution import Execution, meta_gradients
from mamlcli.engine.graphs import CudaRecorder, Graphs
from mamlcli.engine.networks import cnn
from mamlcli.engine.objective import MetaParams
from mamlcli.tasks.episodes import Episode
from mamlcli.training.tf32 import use_tf32
from tests.device_check.parts import Part, Setting
from tests.helpers.problems import EVERY_TRANSFORM, LOOP, NETWORKS, NUM_TASKS, STEP_WEIGHTS, TRANSFORMS, WAYS, problem

ALGORITHMS = ("maml", "fomaml", "anil", "boil")

# Float64: rounding of 1e-16, grown through two steps and batch norms of few pixels; the largest of any tensor.
# Float32: the same from 6e-8, of the norm of the whole, as one entry near zero may be all rounding.
BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-3}

GRAPHS = "explicit, CUDA graphs"


@dataclass(frozen=True)
class Case:
    """One meta-gradient: a network by name, an algorithm, a transform by name, further settings."""

    network: str
    algorithm: str
    transform: str
    settings: tuple[tuple[str, bool], ...] = ()
    has_step_weights: bool = False

    @property
    def words(self) -> str:
        further = [name for name, _ in self.settings] + ["multi-step loss"] * self.has_step_weights
        return ", ".join([self.network, self.algorithm, self.transform, *further])

    def problem(self):
        network = cnn((1, 5, 5), WAYS, depth=1, width=3) if self.network == "cnn" else NETWORKS[self.network]()
        return problem(network, self.algorithm, EVERY_TRANSFORM[self.transform], **dict(self.settings))


def cases(is_small: bool) -> Iterator[Case]:
    """Yield all cases, those that differ most first, so that an end of time leaves little unseen."""
    if is_small:
        yield from (Case("cnn", "maml", "kfo"), Case("mlp", "anil", "none"))
        return
    yield from (Case("cnn", algorithm, "none") for algorithm in ALGORITHMS)
    yield from (Case("cnn", "maml", transform) for transform in EVERY_TRANSFORM if transform != "none")
    for name in NETWORKS:
        yield from (Case(name, it, "none") for it in ALGORITHMS if it != "boil" or not name.startswith("linear"))
    for settings in ((("recompute", True),), (("adapt_transform", True),)):
        yield from (Case("cnn", "maml", transform, settings) for transform in TRANSFORMS if transform != "none")
    yield Case("cnn", "anil", "none", (("joint_features", True),))
    yield from (Case("cnn", it, transform, (), True) for it in ("maml", "anil") for transform in ("none", "kfo"))
    others = (it for it in EVERY_TRANSFORM if it != "none")
    yield from (Case("cnn", algorithm, transform) for transform in others for algorithm in ALGORITHMS[1:])


def moved(meta: MetaParams, episode: Episode, device: torch.device, dtype: torch.dtype) -> tuple[MetaParams, Episode]:
    """Return meta-parameters and tasks on a device, in a number type."""
    flat = {name: value.to(device, dtype) for name, value in meta.flat().items()}
    support_x, support_y, query_x, query_y = (
        part.to(device, dtype if part.is_floating_point() else None) for part in episode.data()
    )
    return MetaParams.from_flat(flat), Episode(support_x, support_y, query_x, query_y, truth={})


def gradient_on(setting: Setting, case: Case, of_case, path: str, dtype: torch.dtype):
    """Return (the meta-gradient of a path on the device, why it was not replayed although it should have been)."""
    objective, meta, episode = of_case
    meta, episode = moved(meta, episode, setting.device, dtype)
    weights = STEP_WEIGHTS if case.has_step_weights else None
    # Three does not divide five: the last chunk is smaller.
    how = Execution(path.partition(",")[0], 1 if path == "loop" else 3, graphs=path == GRAPHS)
    graphs = Graphs(CudaRecorder(setting.device)) if how.graphs else None
    for _ in range(2 if graphs else 1):  # the second comes from the recordings alone
        [found] = meta_gradients(objective, [meta], episode, how, step_weights=weights, graphs=graphs)
    return {name: value.cpu() for name, value in found.gradients.items()}, graphs.reason if graphs else None


def equality(part: Part, setting: Setting) -> None:
    """Compare everything; the part holds where all differences are within their bounds."""
    paths = ("loop", "batched", "explicit", *([GRAPHS] if setting.is_cuda else []))
    all_cases = list(cases(setting.is_small))
    worst: dict[tuple[str, str], tuple[float, str, int]] = {}
    part.holds, num_done = True, 0
    for case in all_cases:
        if setting.is_over():
            part.holds = False
            part.unseen.append(f"{len(all_cases) - num_done} of {len(all_cases)} cases: the time of the part was over")
            break
        of_case = case.problem()
        weights = STEP_WEIGHTS if case.has_step_weights else None
        objective, meta, episode = of_case
        [expected] = meta_gradients(objective, [meta], episode, LOOP, step_weights=weights)
        for path in paths:
            for dtype, bound in BOUNDS.items():
                _compared(part, setting, case, of_case, path, dtype, bound, expected.gradients, worst)
        num_done += 1
    part.lines.append(f"{num_done} of {len(all_cases)} cases of {NUM_TASKS} tasks, {setting.device} against the CPU:")
    for (path, name), (difference, words, number) in worst.items():
        most = f"at most {difference:.1e} ({words}); bound {BOUNDS[getattr(torch, name)]:.0e}"
        part.lines.append(f"  {path}, {name}: {number} compared, {most}")
    _tf32(part, setting)


def _compared(part, setting, case, of_case, path, dtype, bound, expected, worst) -> None:
    """Compare one path in one number type, and keep the result; an error here is a row of its own."""
    name = str(dtype).removeprefix("torch.")
    measure = strict_difference if dtype == torch.float64 else difference_of_norms
    row: dict[str, object] = {"case": case.words, "path": path, "dtype": name}
    part.rows.append(row)
    try:
        found, reason = gradient_on(setting, case, of_case, path, dtype)
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
        part.holds = False
        part.lines.append(f"FAILED {case.words}, {path}, {name}: {row['error']}")
        return
    row["difference"] = difference = measure(found, expected)
    if reason:
        row["not replayed"] = reason
        part.lines.append(f"not replayed: {case.words}, {name}: {reason}")
    if not difference <= bound:
        part.holds = False
        part.lines.append(f"DIFFERS {case.words}, {path}, {name}: {difference:.1e}")
    before = worst.get((path, name), (-1.0, "", 0))
    worst[path, name] = (*max(before[:2], (difference, case.words)), before[2] + 1)


def _tf32(part: Part, setting: Setting) -> None:
    """Say how far TF32 is off, which is not judged."""
    if not setting.is_cuda:
        part.unseen += ["equality of CUDA and CPU: there is no CUDA device", "CUDA graphs", "TF32"]
        return
    use_tf32(True)
    try:
        case = Case("cnn-stride", "maml", "none")
        objective, meta, episode = of_case = case.problem()
        [expected] = meta_gradients(objective, [meta], episode, LOOP)
        found, _ = gradient_on(setting, case, of_case, "explicit", torch.float32)
    finally:
        use_tf32(False)
    difference = difference_of_norms(found, expected.gradients)
    part.rows.append({"case": case.words, "path": "explicit, TF32", "dtype": "float32", "difference": difference})
    part.lines.append(f"  explicit with TF32: {difference:.1e} ({case.words}); not judged")
