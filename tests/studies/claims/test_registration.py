"""What is asked for becomes a plan, or is compared with the plan that there is."""

from dataclasses import replace

import pytest

from mamlcli.common.errors import MamlError
from mamlcli.studies.claims.decisions import UNTIL_DECIDED
from mamlcli.studies.claims.plan import PLAN_FILE, read_plan, write_plan
from mamlcli.studies.claims.registration import (
    Request,
    code_versions,
    draft,
    looks_words,
    open_plan,
    plan_or_draft,
    registered_plan,
)
from mamlcli.studies.claims.scales import SCALES
from tests.helpers.reproductions import LINREG, PACKED, TWO_LOOKS, tiny_plan, tiny_scale


@pytest.fixture(autouse=True)
def scale(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", tiny_scale)


def asked(**changes):
    return Request(**{"scale": "tiny", **changes})


def plan_of(**changes):
    made = draft(asked(**changes))
    return made.plan(made.families)


def test_a_new_plan_has_the_scales_looks_and_seeds_from_100():
    plan = plan_of()
    assert (plan.looks.seeds, plan.first_seed, plan.pilot_seeds) == ((2,), 100, (1, 2))
    assert {contrast.claim for contrast in plan.contrasts} == {"C1", "C7"}
    assert plan.versions["mamlcli"]
    assert plan.rates_from == "scale"


def test_seeds_are_one_look_and_until_decided_is_three():
    assert plan_of(seeds=7).looks.seeds == (7,)
    assert plan_of(until_decided=True).looks == UNTIL_DECIDED
    assert plan_of(first_seed=300).first_seed == 300


def test_a_scale_that_has_several_looks_keeps_them(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", lambda: tiny_scale(looks=TWO_LOOKS))
    assert plan_of(until_decided=True).looks == TWO_LOOKS


def test_optional_families_are_added_by_name():
    assert [family.key for family in plan_of(families=("more",)).families] == ["linear-regression", "logistic", "more"]
    with pytest.raises(MamlError, match=r"--family: expected one of more, got 'mroe'. Did you mean 'more'"):
        plan_of(families=("mroe",))


def test_a_family_without_its_pack_is_left_out_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(SCALES, "tiny", lambda: tiny_scale(families=(LINREG, PACKED), optional={"other": (PACKED,)}))
    plan = plan_of()
    assert [family.key for family in plan.families] == ["linear-regression"]
    assert plan.left_out == ("other regression: its pack is not here (mamlcli data fetch no-such-pack)",)
    with pytest.raises(MamlError, match="mamlcli data fetch no-such-pack"):
        plan_of(families=("other",))


def test_a_scale_that_needs_packs_is_refused_with_the_commands_that_get_them():
    with pytest.raises(MamlError, match="fetch omniglot; mamlcli data fetch cifar-fs; mamlcli data import"):
        draft(Request("paper"))


def test_rates_are_chosen_again_from_those_of_the_scale():
    made = draft(asked(choose_rates=True))
    assert made.needs_pilots
    assert all(not family.rates and family.excess is None for family in made.families)
    assert made.families[0].first_rates == {"depth 1": 0.1, "depth 2": 0.2}
    assert made.plan(made.families).rates_from == "pilots"
    assert not draft(asked()).needs_pilots


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": "labtop"}, "Did you mean 'laptop'"),
        ({"seeds": 5, "until_decided": True}, "expected no --seeds beside it, got --seeds 5"),
        ({"seeds": 1}, "One seed has no variance"),
        ({"max_seeds": 5}, "--max-seeds: expected --until-decided beside it"),
        ({"max_seeds": 4, "until_decided": True}, "--max-seeds: expected 5 or more, got 4"),
        ({"first_seed": 3}, "Lower seeds were seen while the predictions were written"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(changes, message):
    with pytest.raises(MamlError, match=message):
        plan_of(**changes)


def test_a_plan_is_made_once_and_read_ever_after(tmp_path):
    def never():
        raise AssertionError("a plan was there")

    path = tmp_path / "r"
    first = open_plan(path, asked(), plan_of)
    before = (path / PLAN_FILE).read_bytes()
    again = open_plan(path, asked(seeds=2, first_seed=100), never)
    assert again == first
    assert not again.is_edited
    assert (path / PLAN_FILE).read_bytes() == before
    assert plan_or_draft(path, asked()) == first.plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": "laptop"}, "scale tiny there, laptop here"),
        ({"seeds": 3}, "one look at 2 seeds there, at 3 here"),
        ({"until_decided": True}, "the whole error of the plan is spent at its one look"),
        ({"first_seed": 200}, "seeds from 100 there, from 200 here"),
        ({"families": ("more",)}, "family more not there"),
        ({"choose_rates": True}, "rates of the scale there, of pilots here"),
    ],
    ids=str,
)
def test_a_folder_with_another_plan_is_refused_with_what_differs(tmp_path, changes, message):
    write_plan(tmp_path, plan_of())
    before = (tmp_path / PLAN_FILE).read_bytes()
    with pytest.raises(MamlError, match=message) as refused:
        registered_plan(tmp_path, asked(**changes))
    assert f"mamlcli reproduce --scale tiny --dir {tmp_path}" in str(refused.value)
    assert (tmp_path / PLAN_FILE).read_bytes() == before


def test_a_plan_of_several_looks_goes_on_with_or_without_until_decided(tmp_path):
    write_plan(tmp_path, tiny_plan())
    assert registered_plan(tmp_path, asked()).plan == registered_plan(tmp_path, asked(until_decided=True)).plan
    with pytest.raises(MamlError, match="none within --max-seeds 1"):
        registered_plan(tmp_path, asked(until_decided=True, max_seeds=1))


def test_a_plan_of_pilots_goes_on_with_choose_rates(tmp_path):
    write_plan(tmp_path, replace(tiny_plan(), rates_from="pilots"))
    assert registered_plan(tmp_path, asked(choose_rates=True)) is not None


def test_a_folder_of_something_else_is_refused_but_pilots_may_be_there(tmp_path):
    (tmp_path / "pilots").mkdir()
    assert registered_plan(tmp_path, asked()) is None
    (tmp_path / "glyphs-maml").mkdir()
    with pytest.raises(MamlError, match=r"a folder with glyphs-maml\. Its runs were made before a plan"):
        registered_plan(tmp_path, asked())
    (tmp_path / "file").write_text("")
    with pytest.raises(MamlError, match="expected a folder, got a file"):
        registered_plan(tmp_path / "file", asked())
    assert read_plan(tmp_path) is None


def test_versions_name_the_commit_and_whether_files_were_changed():
    assert code_versions({"torch": "2"}, None) == {"torch": "2"}
    assert code_versions({}, {"commit": "abc", "is_dirty": True}) == {"commit": "abc with changed files"}


def test_looks_in_words():
    assert looks_words(UNTIL_DECIDED) == "looks at 5, 10 and 20 seeds"
