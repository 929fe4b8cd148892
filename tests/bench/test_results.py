"""Results of the bench: ratios, and the JSON that programs read."""

from mamlcli.bench.implementations import (
    AUTO,
    LOOP,
)
from mamlcli.bench.peers import PLAIN_LOOP
from mamlcli.bench.results import Ratio, ratios
from mamlcli.training.tuned import TimeSpread
from tests.helpers.benches import made_up_row


def test_ratios_are_peers_over_auto():
    def row(case, name, median, is_ours=False):
        return made_up_row(case, name, is_ours=is_ours, seconds=TimeSpread(median, 1.0, 9.0, 3))

    rows = [
        row("a", AUTO, 2.0, True),
        row("a", LOOP, 9.0, True),
        row("a", "higher", 6.0),
        row("a", PLAIN_LOOP, 5.0),
        row("b", AUTO, 1.0, True),
    ]
    assert ratios(rows, AUTO) == [
        Ratio("a", AUTO, "higher", speedup=3.0, is_fastest_peer=False),
        Ratio("a", AUTO, PLAIN_LOOP, speedup=2.5, is_fastest_peer=True),
    ]
