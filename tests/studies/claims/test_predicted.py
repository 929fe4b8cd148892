"""What each claim predicts of a family: cells, signs, measures and margins."""

import pytest

from mamlcli.studies.claims import predicted
from mamlcli.studies.claims.contrasts import CAPPED_LOSS, EQUAL_TO_KFO, EQUAL_TO_SHALLOW, LOG_ODDS, LOSS, OPERATOR
from tests.helpers.claims import family

GRID = ((1,), (2,), (4,), (1, 0, "kfo"), (2, 0, "kfo"), (4, 0, "kfo"))
MAML = family("maml", *GRID, (1, 2), (1, 3), (1, 0, "meta-sgd"), EQUAL_TO_SHALLOW, EQUAL_TO_KFO)
ANIL = family("anil", *GRID, (1, 2), (1, 0, "meta-sgd"))
LINREG = family("linear-regression", (1,), (2,), (1, 0, "dense"), (1, 0, "kfo"))
LOGISTIC = family("logistic", (1,), (3,), (1, 0, "kfo"))


def shown(contrasts, *, decides):
    """Words with the margin of each measure, of those that decide or of those beside."""
    found = {}
    for contrast in contrasts:
        if contrast.decides is decides:
            found.setdefault(contrast.words, {})[contrast.measure] = contrast.margin
    return found


ADAPTATION = {LOSS: 0.02, LOG_ODDS: 0.1}


def test_c1_is_about_the_deeper_linear_model_and_shows_transforms_beside_both():
    assert shown(predicted.c1(LINREG), decides=True) == {"depth 2 better than depth 1": {LOSS: 0.02, CAPPED_LOSS: 0.02}}
    assert shown(predicted.c1(LOGISTIC), decides=True) == {"depth 3 better than depth 1": ADAPTATION}
    assert list(shown(predicted.c1(LOGISTIC), decides=False)) == [
        "depth 1, kfo better than depth 1",
        "depth 1, kfo better than depth 3",
    ]


def test_margin_of_c1_is_a_share_of_the_excess_on_losses_alone():
    logistic, linreg = (predicted.c1(family(of.role, *of.values, excess=0.5)) for of in (LOGISTIC, LINREG))
    assert shown(logistic, decides=True) == {"depth 3 better than depth 1": {LOSS: 0.025, LOG_ODDS: 0.1}}
    assert shown(linreg, decides=True) == {"depth 2 better than depth 1": {LOSS: 0.025, CAPPED_LOSS: 0.025}}


def test_c2_is_about_each_deeper_network_and_shows_the_narrow_deep_one_beside():
    rows = predicted.c2(MAML)
    assert shown(rows, decides=True) == {
        "depth 2 better than depth 1": ADAPTATION,
        "depth 4 better than depth 1": ADAPTATION,
    }
    assert shown(rows, decides=False) == {"depth 4, width 4 better than depth 1": ADAPTATION}
    assert rows[0].terms == (("depth 2", -1.0), ("depth 1", 1.0))
    assert rows[1].terms == (("depth 2", 1.0), ("depth 1", -1.0))


def test_c3_is_about_layers_against_none_and_against_themselves_collapsed():
    rows = predicted.c3(MAML)
    collapsed = "better than the same layers collapsed into one before adaptation"
    assert shown(rows, decides=True) == {
        "depth 1, 2 linear layers better than depth 1": ADAPTATION,
        "depth 1, 3 linear layers better than depth 1": ADAPTATION,
        f"depth 1, 2 linear layers {collapsed}": ADAPTATION,
        f"depth 1, 3 linear layers {collapsed}": ADAPTATION,
    }
    [on_loss] = [row for row in rows if row.words.startswith("depth 1, 2") and "same" in row.words][:1]
    assert on_loss.terms == (("depth 1, 2 linear layers", -1.0), ("depth 1, 2 linear layers, collapsed", 1.0))
    assert shown(rows, decides=False) == {}


def test_c4_is_decided_on_kfo_and_shows_other_transforms_and_a_deeper_network_beside():
    rows = predicted.c4(MAML)
    assert shown(rows, decides=True) == {"depth 1, kfo better than depth 1": ADAPTATION}
    assert shown(rows, decides=False) == {
        "depth 1, meta-sgd better than depth 1": ADAPTATION,
        "depth 1, kfo better than depth 2, width 22": ADAPTATION,
    }


def test_a_family_of_transforms_stands_beside_c4_alone():
    of = family("transforms", (1,), (1, 0, "kfo"), (1, 0, "kfo-mlp"))
    assert shown(predicted.c4(of), decides=True) == {}
    assert len(shown(predicted.c4(of), decides=False)) == 2
    claims = (predicted.c1, predicted.c2, predicted.c3, predicted.c5, predicted.c6, predicted.c7)
    assert [row for claim in claims for row in claim(of)] == []


def test_c5_is_about_depth_2_and_depth_4_whatever_other_depths_there_are():
    rows = predicted.c5(family("maml", *GRID, (3,), (3, 0, "kfo")))
    assert shown(rows, decides=True) == {
        "the advantage of kfo larger at depth 2 than at depth 4": {LOSS: 0.04, LOG_ODDS: 0.1}
    }
    on_loss, on_log_odds = (dict(row.terms) for row in rows)
    assert on_loss == {"depth 2": 1.0, "depth 2, kfo": -1.0, "depth 4": -1.0, "depth 4, kfo": 1.0}
    assert on_log_odds == {name: -weight for name, weight in on_loss.items()}


@pytest.mark.parametrize(("without", "depths"), [((), "2 than at depth 4"), ((2,), "1 than at depth 4")])
def test_c6_is_all_of_it_under_anil_and_all_of_it_decides(without, depths):
    rows = predicted.c6(family("anil", *(value for value in ANIL.values if value.depth not in without)))
    assert shown(rows, decides=False) == {}
    deeper = [depth for depth in (2, 4) if depth not in without]
    assert shown(rows, decides=True) == {
        **{f"depth {depth} better than depth 1": ADAPTATION for depth in deeper},
        "depth 1, 2 linear layers better than depth 1": ADAPTATION,
        "depth 1, 2 linear layers better than the same layers collapsed into one before adaptation": ADAPTATION,
        "depth 1, kfo better than depth 1": ADAPTATION,
        f"the advantage of kfo larger at depth {depths}": {LOSS: 0.04, LOG_ODDS: 0.1},
    }


def test_c7_is_about_the_operator_of_two_layers_and_shows_those_of_transforms_beside():
    rows = predicted.c7(LINREG)
    words = "the operator of depth 2 nearer to the best one than that of depth 1"
    assert shown(rows, decides=True) == {words: {OPERATOR: 0.02}}
    assert rows[0].terms == (("depth 2", -1.0), ("depth 1", 1.0))
    assert len(shown(rows, decides=False)) == 2


@pytest.mark.parametrize("of", [MAML, ANIL, LINREG, LOGISTIC])
def test_claims_are_about_families_of_their_roles_alone(of):
    by_role = {"maml": ["c2", "c3", "c4", "c5"], "anil": ["c6"], "linear-regression": ["c1", "c7"], "logistic": ["c1"]}
    claims = [f"c{number}" for number in range(1, 8)]
    assert [name for name in claims if getattr(predicted, name)(of)] == by_role[of.role]


def test_nothing_is_predicted_of_cells_that_a_family_does_not_have():
    bare = [family(role, (1,)) for role in ("maml", "anil", "linear-regression", "logistic")]
    claims = [getattr(predicted, f"c{number}") for number in range(1, 8)]
    assert [row for of in bare for claim in claims for row in claim(of)] == []
