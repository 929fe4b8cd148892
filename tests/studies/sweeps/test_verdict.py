"""What a study shows, in sentences."""

from dataclasses import replace

from mamlcli.studies.sweeps.scores import GridValue
from mamlcli.studies.sweeps.tables import study_tables
from mamlcli.studies.sweeps.verdict import study_verdict
from tests.helpers.studies import comparison, depth_result, grid_result


def test_the_grid_verdict_names_the_advantage_at_every_depth():
    result = grid_result()
    assert len(study_tables(result)) == 3
    assert study_verdict(result) == (
        "The best advantage over none, in accuracy points: +5.0 ± 1.0 at depth 1 (kfo), +2.0 ± 3.0 at depth 2 (kfo)."
    )


def test_the_best_of_several_says_that_the_choice_is_not_corrected():
    grid = grid_result()
    third = replace(grid.cells[1], value=GridValue(1, "dense"))
    more = comparison(third.value, grid.cells[0].value, 0.04)
    grid = replace(grid, cells=(*grid.cells, third), comparisons=(*grid.comparisons, more))
    assert "in accuracy points (best of 2 on meta-test, not corrected for the choice): +5.0" in study_verdict(grid)
    assert study_verdict(depth_result()).startswith(
        "Best of 2 on meta-test, not corrected for the choice: depth 2, accuracy 70.0 ± 1.0 %"
    )
