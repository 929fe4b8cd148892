"""plan.json: what it holds, its digest, and that it is written once."""

import json
from dataclasses import replace

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.studies.claims.contrasts import CellValue
from mamlcli.studies.claims.plan import PLAN_FILE, Amounts, Plan, read_plan, write_plan
from tests.helpers.reproductions import LINREG, tiny_plan

FULL = replace(
    LINREG,
    values=(CellValue(1, width=4), CellValue(2, 3, "kfo")),
    first_rates={"depth 1, width 4": 0.3},
    more={"depth 1, width 4": {"model.pool": 2}},
    adapts=True,
)


def test_a_plan_comes_back_from_its_json_with_the_same_digest():
    plan = tiny_plan(families=(FULL, LINREG), left_out=("Omniglot: no pack",))
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert again.digest == plan.digest
    assert len(plan.digest) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"first_seed": 101},
        {"families": (replace(LINREG, rates={"depth 1": 0.1, "depth 2": 0.21}),)},
        {"contrasts": ()},
        {"versions": {"mamlcli": "1"}},
        {"registered_amounts": Amounts(control_tasks=8)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_digest_is_of_all_content(changes):
    plan = tiny_plan(families=(LINREG,))
    assert replace(plan, **changes).digest != plan.digest


def test_the_digest_does_not_depend_on_the_order_of_keys():
    plan = tiny_plan(families=(LINREG,))
    turned = replace(LINREG, rates=dict(reversed(LINREG.rates.items())))
    assert replace(plan, families=(turned,)).digest == plan.digest


def test_a_plan_is_never_written_over(tmp_path):
    write_plan(tmp_path / "r", tiny_plan())
    before = (tmp_path / "r" / PLAN_FILE).read_bytes()
    with pytest.raises(FileExistsError):
        write_plan(tmp_path / "r", tiny_plan(first_seed=500))
    assert (tmp_path / "r" / PLAN_FILE).read_bytes() == before


def test_a_plan_that_was_edited_is_known_by_its_digest(tmp_path):
    write_plan(tmp_path, tiny_plan())
    assert not read_plan(tmp_path).is_edited
    content = json.loads((tmp_path / PLAN_FILE).read_text())
    content["contrasts"][0]["margin"] = 0.001
    (tmp_path / PLAN_FILE).write_text(json.dumps(content))
    opened = read_plan(tmp_path)
    assert opened.is_edited
    assert opened.plan.contrasts[0].margin == 0.001


def test_a_plan_of_before_amounts_were_registered_keeps_its_digest(tmp_path):
    write_plan(tmp_path / "new", tiny_plan(registered_amounts=Amounts(premise_tasks=2)))
    new = read_plan(tmp_path / "new")
    assert not new.is_edited
    assert new.plan.amounts == Amounts(premise_tasks=2)
    write_plan(tmp_path / "old", tiny_plan())
    assert "registered_amounts" not in json.loads((tmp_path / "old" / PLAN_FILE).read_text())
    old = read_plan(tmp_path / "old")
    assert not old.is_edited
    assert old.plan.amounts == Amounts()


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    assert read_plan(tmp_path) is None
    for text in ("{", "{}", "[1]", "null", json.dumps({**tiny_plan().to_json(), "new": 1})):
        (tmp_path / PLAN_FILE).write_text(text)
        with pytest.raises(MamlError, match=r"plan\.json: expected the plan of a reproduction.*Restore the file"):
            read_plan(tmp_path)


def test_seeds_count_up_from_the_first():
    assert list(tiny_plan().seeds(3)) == [100, 101, 102]
