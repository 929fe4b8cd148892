"""How a reproduction looks in the terminal."""

import pytest

from mamlcli.cli import reproduction_display, study_display
from mamlcli.cli.reproduction_display import (
    Display,
    cost_words,
    look_parts,
    look_words,
    result_parts,
)
from mamlcli.studies.claims.calls import Call
from mamlcli.studies.claims.costs import Cost
from mamlcli.studies.claims.decisions import HOLDS, UNDECIDED
from mamlcli.studies.claims.reproduction import Reproduction, sweep_of
from mamlcli.studies.claims.rest import NewPlan, Rest
from mamlcli.studies.sweeps.run import CellEnd
from tests.helpers.decided import CHECK, claim, row
from tests.helpers.reproductions import LINREG, tiny_plan
from tests.helpers.terminal import as_shown

OPEN = row("a prediction about cells with rather long names", UNDECIDED)


def reproduction(**changes):
    rows = [row("holds", HOLDS), OPEN]
    given = {
        "plan": tiny_plan(),
        "claims": (claim(UNDECIDED, rows, checks=[CHECK]),),
        "studies": (),
        "deviations": ("a pack is missing",),
        "look": 1,
        "rest": {OPEN.contrast.key: Rest(9, 0.5)},
        "next_seeds": 4,
        "next_hours": 0.25,
    }
    return Reproduction(**{**given, **changes})


def printed(parts, width):
    return as_shown(list(parts), width=width)


@pytest.mark.parametrize("width", [80, 120])
def test_a_look_is_legible_at_usual_widths(width):
    text = printed(look_parts(reproduction()), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for part in ("look 1 of 2, at 2 seeds", "C1", "undecided", "0.125", "0.02", "9 seeds", "30 min"):
        assert part in words
    assert "next look is at 4 seeds" in words
    assert "15 min" in words
    assert "…" not in text


def test_nothing_open_shows_no_table_of_what_is_open():
    done = reproduction(claims=(claim(HOLDS, [row("holds", HOLDS)]),), rest={}, next_seeds=None, next_hours=None)
    text = printed(look_parts(done), 80)
    assert "open predictions" not in text
    assert "next look" not in text


def test_the_end_names_the_command_that_takes_the_next_look(tmp_path):
    text = printed([part for part in result_parts(reproduction(), tmp_path) if isinstance(part, str)], 200)
    scale = reproduction().plan.scale
    assert f"To take it: mamlcli reproduce --scale {scale} --dir {tmp_path} --until-decided" in text
    done = reproduction(next_seeds=None, next_hours=None)
    assert "--until-decided" not in " ".join(part for part in result_parts(done, tmp_path) if isinstance(part, str))


def test_a_new_plan_is_named_where_the_looks_of_this_one_are_spent():
    plan = NewPlan(16, 102, 0.5, "mamlcli reproduce --scale tiny --seeds 16 --first-seed 102 --dir NEW")
    words = " ".join(printed(look_parts(reproduction(next_seeds=None, next_hours=None, new_plan=plan)), 120).split())
    assert "no valid level" in words
    assert plan.command in words
    assert "about 30 min" in words


def test_before_the_first_look_is_said():
    assert look_words(reproduction(look=0)) == "before the first look, which is at 2 seeds"


def test_the_end_names_deviations_and_the_report(tmp_path):
    notes = [part.text for part in result_parts(reproduction(), tmp_path) if hasattr(part, "text")]
    assert notes[0] == "deviation from the plan: a pack is missing"
    assert f"{tmp_path}/report.html" in notes[1]
    done = reproduction(calls=(Call("2026-01-01T00:00:00+00:00", 600.0, 2, 2),))
    _, elapsed, _ = [part.text for part in result_parts(done, tmp_path) if hasattr(part, "text")]
    assert elapsed.startswith("It took 10 min")


def test_cost_in_words_counts_what_is_done_and_pilots():
    words = cost_words(Cost(8, 3, 14, 120.0), "scale tiny: a moment. Plan: one look at 4 seeds", 2)
    assert "8 runs for the first look, 3 of them done and about 14 pilots" in words
    assert "about 2 min" in words
    assert "done" not in cost_words(Cost(8, 0, 0, 1.0), "scale tiny", 2)


def test_a_look_is_shown_when_the_next_begins(monkeypatch):
    notes = []
    monkeypatch.setattr(reproduction_display.console, "note", notes.append)
    display, sweep = Display(1), sweep_of(LINREG, first_seed=100, num_seeds=2)
    display.begin(LINREG, sweep)
    display.look(reproduction())
    assert len(notes) == 1
    display.begin(LINREG, sweep)
    assert len(notes) == 5  # two tables, the cost of the next look, the heading
    assert notes[-1].startswith("linear regression: ")


def test_pilots_are_shown_before_any_family(monkeypatch):
    notes = []
    monkeypatch.setattr(study_display.console, "note", lambda text: notes.append(str(text)))
    Display(2).show(CellEnd("pilot: depth 1, inner lr 0.2, seed 1", "done", 1, 4, wall_s=3.0))
    assert notes == ["[1/4] pilot: depth 1, inner lr 0.2, seed 1: done (3 s; about 4 s left of those known so far)"]
