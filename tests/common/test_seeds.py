"""Seeds from keys: the same everywhere, another one for every key."""

from __future__ import annotations

import pytest

from mamlcli.common.seeds import key_seed


@pytest.mark.parametrize(
    ("key", "seed"), [(("train", 0, 1, 2), 932376747071744102), ((1,), 7927499134100065532), ((), 6510301506637419378)]
)
def test_seed_of_a_key_never_changes(key, seed):
    # Or no run could be resumed or repeated. The numbers are those of the first release: key_seed(*key).
    assert key_seed(*key) == seed


def test_keys_that_read_alike_have_other_seeds():
    keys = [(1, 2), (12,), ("12",), ("1", "2"), (1, "2"), ("1", 2), (2, 1), (1, 2, 0)]
    assert len({key_seed(*key) for key in keys}) == len(keys)


def test_seeds_fit_into_63_bits_and_use_them():
    seeds = [key_seed("range", index) for index in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) >= 2**62  # the chance of none among 200 is 2**-200
