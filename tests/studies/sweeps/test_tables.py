"""The tables of a study and the notes below them."""

import io
from dataclasses import replace

from rich.console import Console

from mamlcli.common.statistics import Score
from mamlcli.studies.sweeps.cell_result import RateCandidate
from mamlcli.studies.sweeps.tables import curves_table, interval_words, value_table
from tests.helpers.studies import depth_result


def notes(result):
    return " ".join(str(value_table(result).caption).split())


def test_notes_say_where_fewer_seeds_are_behind_a_line():
    result = depth_result()
    assert "over 3 seeds\n" in f"{interval_words(result)}\n"
    first, second = result.cells
    fewer = replace(result, cells=(first, replace(second, seeds=(0, 2))))
    assert interval_words(fewer).endswith("over 3 seeds (2: 2)")


def test_notes_say_why_a_number_has_no_interval():
    result = depth_result()
    first, second = result.cells
    *earlier, last = second.curve
    scores = replace(last.scores, values={key: Score(0.5) for key in last.scores.values})
    changed = replace(second, curve=(*earlier, replace(last, scores=scores)))
    without = replace(result, cells=(first, changed))
    assert interval_words(without).endswith("over 3 seeds; none where all seeds are the same")


def test_a_rate_at_the_edge_of_the_list_is_named():
    candidates = tuple(RateCandidate(rate, "done", 0.5) for rate in (0.5, 2.0, 8.0))

    def result_at(*rates):
        cells = zip(depth_result().cells, rates, strict=True)
        chosen = tuple(replace(cell, inner_lr=rate, candidates=candidates) for cell, rate in cells)
        return replace(depth_result(), inner_lr_is_chosen=True, cells=chosen)

    assert "inner lr of 1: chosen at the edge of --inner-lrs: a wider list may be fairer" in notes(result_at(8.0, 2.0))
    assert "edge" not in notes(result_at(2.0, 2.0))


def test_seeds_that_share_a_start_are_noted():
    assert "all seeds share that start" in notes(replace(depth_result(), started_from="runs/x-1"))
    assert "share" not in notes(depth_result())


def test_study_curves_stand_under_their_columns_as_blocks():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(curves_table(depth_result()))
    shown = console.export_text()
    assert "▅▅" in shown
    assert "blocks: 0 to 100 %" in shown
