"""The bench's tables: they fit 80 columns and say under what conditions was measured."""

import io
import re

from rich.console import Console

from mamlcli.bench.tables import bench_parts
from tests.helpers.benches import made_up_report


def shown(width):
    console = Console(width=width, file=io.StringIO())
    for part in bench_parts(made_up_report()):
        console.print(part)
    return console.file.getvalue()


def test_tables_fit_80_columns():
    tables = [line.rstrip() for line in shown(200).splitlines() if re.search(r"\d-\d|flop %  ", line)]
    assert len(tables) == 4 * 9
    assert max(map(len, tables)) <= 80
    assert all(line in shown(80) for line in tables)


def test_table_says_threads_execution_compile_time_and_what_is_left_out():
    text = " ".join(shown(80).split())
    for words in (
        "163 with 2 threads",
        "copying memory, GB/s: 11 with 1 thread, 19 with 2 threads",
        "load before: 0.52, 0.61, 0.70 (1, 5, 15 minutes); others used 3 % of the cores",
        "jax: compiled in 61.2 s",
        "error: mamlcli (auto) 1e-05",
        "compiled in 61.2 s",
        "path batched, chunk 16",
        "left out: x",
        "memory before the first meta-gradient",
        "higher 2; TorchOpt 2",
    ):
        assert words in text
