"""The studies that the claims rest on are run here, those of one scale.

A scale is a list of sweeps; each is an ordinary study folder under the reproduction's own, so that a cut
reproduction continues where it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from mamlcli.common.errors import MamlError
from mamlcli.recipe.files import load_recipe
from mamlcli.runs.folder import RunDirectory
from mamlcli.studies.claims.evidence import study_of_family
from mamlcli.studies.claims.predictions import Study, value_key
from mamlcli.studies.claims.scales import Family, Scale
from mamlcli.studies.sweeps.folder import open_study
from mamlcli.studies.sweeps.run import CellEnd, run_sweep
from mamlcli.studies.sweeps.scores import GridValue
from mamlcli.studies.sweeps.sweep import AxisValue, Sweep, cells_of, check_sweep
from mamlcli.tasks.images.packs import find_pack
from mamlcli.training.dry_run import dry_run

AXIS = "model.depth x model.linear_layers x inner.transform.name"


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
        "reproduce",
        AXIS,
        name,
        recipe,
        values,
        num_seeds=num_seeds,
        inner_lrs=family.inner_lrs,
        with_collapse=has_layers,
    )


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
        raise MamlError(
            f"--scale {scale.name}",
            expected="packs of every data set it uses",
            got=f"none of {', '.join(packs)}",
            next_step=f"Run: {commands}",
        )
    left_out = [f"{pack}: its pack is not here (mamlcli data fetch {pack})" for pack in packs]
    return [family for family in scale.families if family not in absent], left_out


def cost_s(families: Sequence[Family], num_seeds: int, num_processes: int, device: str | None) -> float:
    """Return a rough cost of the families in seconds: every value measured on a few meta-iterations, for its cells."""
    total = 0.0
    for family in families:
        cells = cells_of(sweep_of(family, num_seeds, device))
        for label in dict.fromkeys(cell.value.label for cell in cells):
            of_value = [cell for cell in cells if cell.value.label == label]
            cost = dry_run(of_value[0].recipe)
            total += (cost.training_s + cost.evaluation_s) * len(of_value)
    return total / num_processes


def run_families(
    families: Sequence[Family],
    path: Path,
    *,
    num_seeds: int,
    num_processes: int,
    argv: Sequence[str],
    command: str,
    device: str | None,
    on_family: Callable[[Family, Sweep], None],
    on_end: Callable[[CellEnd], None],
) -> tuple[list[Study], list[str]]:
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
        result = run_sweep(sweep, path / family.key, num_processes=num_processes, argv=argv, on_end=on_end)
        failures += [f"{family.words}, {label}: {reason}" for label, reason in result.failures]
        studies.append(study_of_family(family, result, num_seeds, fixed_rate=sweep.recipe.inner.lr))
    return studies, failures


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
    return sum(manifest.wall_s or 0.0 for manifest in manifests)


def candidates(study: Study) -> list[float]:
    """Return the inner learning rates that were tried."""
    tried = next((cell.candidates for cell in study.result.cells if cell.candidates), ())
    return [float(candidate.inner_lr) for candidate in tried]
