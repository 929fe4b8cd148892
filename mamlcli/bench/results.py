"""This module holds the results of `mamlcli bench` as types, and turns them into bench.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from mamlcli.bench.load import Load
from mamlcli.engine.execution import Execution
from mamlcli.training.tuned import TimeSpread


@dataclass(frozen=True)
class BenchRow:
    """Holds what was measured of one implementation on one case.

    Attributes:
        case: its name.
        implementation: its name, as in tables.
        is_ours: whether it is of mamlcli.
        threads: CPU threads that it used.
        execution: how ours runs tasks; None of a peer.
        peak_memory_mb: of a fresh process, interpreter and torch included; None where the system does not tell.
        baseline_memory_mb: the same process's peak before the meta-gradient.
        float64_difference: largest error of any tensor beside the plain loop in float64.
        float32_difference: relative error of the whole, in float32.
        compile_s: seconds of compiling; None where nothing is compiled.
        gflop: nominal floating-point operations of what is timed, in 1e9.
        checked_tasks: tasks on which the differences were taken.
        seconds_per_meta_iteration: over the rounds.
        fraction_of_matmul: operations a second beside those of a large matrix product on as many threads.
        traffic_gb: bytes that its operations read and write, in 1e9, as `traffic_counted` counts them; None where
            they are not counted.
        bandwidth_gb_per_s: traffic_gb a second.
        fraction_of_copy: bandwidth beside that of copying a large tensor on as many threads; above 1 where caches help.
    """

    case: str
    implementation: str
    is_ours: bool
    threads: int
    execution: Execution | None
    peak_memory_mb: float | None
    baseline_memory_mb: float | None
    float64_difference: float
    float32_difference: float
    compile_s: float | None
    gflop: float
    checked_tasks: int
    seconds_per_meta_iteration: TimeSpread
    fraction_of_matmul: float
    traffic_gb: float | None = None
    bandwidth_gb_per_s: float | None = None
    fraction_of_copy: float | None = None


@dataclass(frozen=True)
class Ratio:
    """Tells how many times faster an implementation of ours is than a peer on a case, by their medians."""

    case: str
    mamlcli: str
    peer: str
    speedup: float
    is_fastest_peer: bool


@dataclass(frozen=True)
class Machine:
    """Describes the machine that the bench ran on.

    Attributes:
        device: in words.
        cpu: its model.
        cores: logical ones; None where the system does not tell.
        threads: of the CPU, as many as torch takes by itself.
        versions: of mamlcli, Python, the platform and packages, by name.
        time: of the bench, UTC, ISO 8601.
        peers: the versions of the peers that are libraries, by package.
        matmul_gflop_per_s: of a large float32 matrix product, in 1e9 operations a second, by threads.
        copy_gb_per_s: of copying a large tensor, in 1e9 bytes read and written a second, by threads.
        load: what else the machine did.
    """

    device: str
    cpu: str
    cores: int | None
    threads: int
    versions: dict[str, str]
    time: str
    peers: dict[str, str]
    matmul_gflop_per_s: dict[int, float]
    copy_gb_per_s: dict[int, float] = field(default_factory=dict)
    load: Load = field(default_factory=Load)

    def to_json(self) -> dict[str, object]:
        """Return the facts as primitives, all versions beside the rest."""
        return {
            "device": self.device,
            "cpu": self.cpu,
            "cores": self.cores,
            "threads": self.threads,
            **self.versions,
            "time": self.time,
            **self.peers,
            "matmul_gflop_per_s": {str(threads): rate for threads, rate in self.matmul_gflop_per_s.items()},
            "copy_gb_per_s": {str(threads): rate for threads, rate in self.copy_gb_per_s.items()},
            "load": asdict(self.load),
        }


@dataclass(frozen=True)
class Conditions:
    """Holds what was the same for every row of a bench.

    Attributes:
        cases: what each case is, in words, by name.
        shots, queries: support and query inputs of a class, of a case that does not say otherwise.
        tasks: of the meta-batch, likewise.
        inner_steps: likewise.
        order: of the derivatives: 2, exact.
        dtype: of what is timed.
        reference: what every meta-gradient is compared with.
        tolerance: how far it may be from it in float64.
        repeats: rounds of each case; None where time decides.
        seconds_per_case: what the rounds of a case may take; None where their number is given.
        tf32_convolutions, tf32_matmul: whether a GPU may round the factors of products to 10 bits.
        kinds: what is timed of each case: a meta-gradient, a meta-iteration, or an evaluation.
        tasks_of_cases: how many tasks it is timed on.
    """

    cases: dict[str, str]
    shots: int
    queries: int
    tasks: int
    inner_steps: int
    order: int
    dtype: str
    reference: str
    tolerance: float
    repeats: int | None
    seconds_per_case: float | None
    tf32_convolutions: bool
    tf32_matmul: bool
    kinds: dict[str, str] = field(default_factory=dict)
    tasks_of_cases: dict[str, int] = field(default_factory=dict)


def ratios(rows: Sequence[BenchRow], ours: str) -> list[Ratio]:
    """Return how many times faster an implementation of ours is than each peer, case by case.

    Args:
        rows: of any cases; a case without ours or without a peer has no ratio.
        ours: the name of the implementation.
    """
    ratios_of_cases = []
    for case in dict.fromkeys(row.case for row in rows):
        medians = {row.implementation: row.seconds_per_meta_iteration.median for row in rows if row.case == case}
        peers = [row.implementation for row in rows if row.case == case and not row.is_ours]
        if ours not in medians or not peers:
            continue
        fastest = min(peers, key=lambda name: medians[name])
        ratios_of_cases += [Ratio(case, ours, peer, medians[peer] / medians[ours], peer == fastest) for peer in peers]
    return ratios_of_cases


@dataclass(frozen=True)
class BenchReport:
    """Holds all that a bench measured, and a line for everything that was left out (`notes`)."""

    machine: Machine
    settings: Conditions
    rows: tuple[BenchRow, ...]
    ratios: tuple[Ratio, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the content of bench.json, which `--json` prints."""
        return {
            "machine": self.machine.to_json(),
            "settings": asdict(self.settings),
            "rows": [asdict(row) for row in self.rows],
            "ratios": [asdict(ratio) for ratio in self.ratios],
            "notes": list(self.notes),
        }

    def rows_of(self, case: str) -> list[BenchRow]:
        """Return the rows of one case."""
        return [row for row in self.rows if row.case == case]
