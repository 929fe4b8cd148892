"""The test files that take longest, the longest first: processes that share the suite begin with them.

A file that is not named here comes after those that are, by its number of tests. Where seconds are to be had:
python -m pytest -n 2 --dist loadfile --durations=100
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

LONGEST = (
    "tests/test_docs.py",
    "tests/studies/sweeps/test_run.py",
    "tests/cli/test_workers.py",
    "tests/soak/test_soak.py",
    "tests/engine/test_execution.py",
    "tests/defaults/test_defaults.py",
    "tests/training/test_random_recipes.py",
    "tests/training/test_run_together.py",
    "tests/test_process.py",
    "tests/training/test_run.py",
    "tests/training/test_golden_traces.py",
    "tests/test_plugin_example.py",
    "tests/common/test_coverage.py",
    "tests/training/test_same_bits.py",
    "tests/cli/test_studies.py",
    "tests/cli/test_reproduce.py",
    "tests/training/test_leakage.py",
    "tests/training/test_endings.py",
    "tests/runs/test_place.py",
    "tests/test_package.py",
    "tests/engine/explicit/test_compilation.py",
    "tests/test_api.py",
    "tests/cli/test_layers.py",
    "tests/common/test_figures.py",
    "tests/common/processes/test_pool.py",
    "tests/common/processes/test_launch.py",
    "tests/runs/test_lock.py",
    "tests/studies/sweeps/test_capacity.py",
    "tests/studies/layers/test_image_operators.py",
    "tests/studies/layers/test_figure.py",
    "tests/studies/claims/test_looks.py",
    "tests/studies/claims/test_files.py",
    "tests/studies/test_start.py",
    "tests/fuzz/test_images.py",
    "tests/fuzz/test_packs.py",
    "tests/recipe/test_shipped_recipes.py",
    "tests/tasks/images/test_glyphs.py",
    "tests/cli/test_suggestions.py",
    "tests/engine/test_sharing.py",
    "tests/deploy/test_module_source.py",
    "tests/common/test_statistics.py",
)


def in_order(items: list[pytest.Item], root: Path) -> None:
    """Sort tests by their files, in place; those of one file keep their order."""
    places = {root / name: place for place, name in enumerate(LONGEST)}
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (places.get(item.path, len(LONGEST)), -counts[item.path]))
