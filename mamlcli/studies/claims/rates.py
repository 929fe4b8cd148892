"""Inner learning rates that pilots chose, recorded so that scales for CPUs need no pilots of their own.

Each is the rate with the lowest mean query loss on meta-validation tasks over pilot seeds 1 and 2, which are never
tested; grids grew by factors of two until the best was inside and were refined once around it by factors of sqrt(2).
"""

from __future__ import annotations

# Key of the family -> value key -> inner learning rate.
RATES: dict[str, dict[str, float]] = {
    "linear-regression": {"depth 1": 1.3, "depth 2": 0.25, "depth 1, dense": 0.5, "depth 1, kfo": 0.5},
    "logistic": {"depth 1": 5.0, "depth 3": 0.7, "depth 1, meta-sgd": 2.0, "depth 1, kfo": 2.0},
    "glyphs-maml": {
        "depth 1": 0.4,
        "depth 2": 0.4,
        "depth 4": 0.4,
        "depth 1, 1 linear layer": 0.8,
        "depth 1, 2 linear layers": 0.565685,
        "depth 1, 3 linear layers": 0.4,
        "depth 1, meta-sgd": 0.8,
        "depth 1, meta-curvature": 0.8,
        "depth 1, dense": 0.8,
        "depth 1, kfo": 2.262742,
        "depth 2, kfo": 0.4,
        "depth 4, kfo": 0.4,
        "depth 4, width 4": 0.4,
        "depth 2, width 22": 0.4,
    },
    "glyphs-anil": {
        "depth 1": 3.2,
        "depth 2": 0.4,
        "depth 4": 0.4,
        "depth 1, 1 linear layer": 0.8,
        "depth 1, 2 linear layers": 0.4,
        "depth 1, kfo": 6.4,
        "depth 2, kfo": 0.4,
        "depth 4, kfo": 0.4,
    },
}

# Query loss of the shallow model above the floor on the same pilot seeds, in nats (of half the squared error for
# linear regression).
SYNTHETIC_EXCESS: dict[str, float] = {"linear-regression": 0.071, "logistic": 0.056}
