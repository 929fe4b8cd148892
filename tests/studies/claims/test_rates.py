"""Recorded inner learning rates."""

from mamlcli.studies.claims.rates import RATES, SYNTHETIC_EXCESS
from mamlcli.studies.claims.scales import evening


def test_every_recorded_rate_is_of_a_value_of_a_scale():
    families = {family.key: family for family in evening().families}
    for key, rates in RATES.items():
        assert set(rates) == {value.key for value in families[key].values}
        assert all(0 < rate < 100 for rate in rates.values())


def test_the_excess_is_recorded_of_tasks_with_a_floor():
    assert set(SYNTHETIC_EXCESS) == {"linear-regression", "logistic"}
    assert all(excess > 0 for excess in SYNTHETIC_EXCESS.values())
