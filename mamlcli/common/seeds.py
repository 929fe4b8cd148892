"""Seeds are made from keys, such as (seed, split, iteration, task), so that nothing random is carried along."""

from __future__ import annotations

import hashlib


def key_seed(*key: int | str) -> int:
    """Hash a key of integers and strings to a seed in [0, 2**63), the same on every machine."""
    text = "\x1f".join([f"{type(part).__name__}:{part}" for part in key])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    # torch takes seeds up to 2**64 - 1, but reports them as signed; 63 bits read the same both ways.
    return int.from_bytes(digest, "little") >> 1
