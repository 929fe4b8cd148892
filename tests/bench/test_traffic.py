"""Bytes that operations read and write, counted by hand: float32 has four of them."""

import torch

from mamlcli.bench.traffic import add_traffic, traffic_counted


def bytes_of(function):
    with traffic_counted() as traffic:
        function()
    return traffic.num_bytes


def test_an_operation_counts_what_it_is_given_and_what_it_returns():
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert bytes_of(lambda: a @ b) == 4 * (12 + 20 + 15)
    assert bytes_of(lambda: a + 1) == 4 * (12 + 12)
    assert bytes_of(lambda: a.add_(1)) == 4 * (12 + 12)
    assert bytes_of(lambda: torch.add(a, a, out=torch.empty(3, 4))) == 4 * (12 + 12 + 12)


def test_what_is_only_written_or_only_looked_at_counts_as_such():
    a = torch.ones(3, 4)
    assert bytes_of(lambda: (a.T, a[1:], a.reshape(12), torch.empty(1000))) == 0
    assert bytes_of(lambda: a.zero_()) == 4 * 12
    assert bytes_of(lambda: torch.empty(3, 4).copy_(a)) == 4 * (12 + 12)
    # A dimension that is expanded is in memory once: 4 are read, 12 and 12.
    assert bytes_of(lambda: a + torch.ones(4).expand(3, 4)) == 4 * (4 + 4 + 12 + 12)


def test_derivatives_and_what_is_compiled_elsewhere_count_too():
    x = torch.ones(100, requires_grad=True)
    forward = bytes_of(lambda: x.sin())
    assert bytes_of(lambda: x.sin().sum().backward()) > 2 * forward
    assert bytes_of(lambda: add_traffic(7.0)) == 7.0
    add_traffic(7.0)  # nothing counts
