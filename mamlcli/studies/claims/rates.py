"""Inner learning rates that pilots chose, recorded so that scales for CPUs need few pilots of their own.

Each is the rate with the lowest mean query loss on meta-validation tasks over pilot seeds 1 and 2, which are never
tested; grids grew by factors of two until the best was inside, and were refined once around it by factors of sqrt(2).
Two exceptions: networks of depth 4 were not refined (neighbouring rates differ by less than 0.03 nats), and the grid of
dense on linear regression ended at 32, where it is flat (0.0501 at 16 and at 32). Values that are not here get their
rates from pilots when a reproduction is planned.
"""

from __future__ import annotations

# Key of the family -> value key -> inner learning rate.
RATES: dict[str, dict[str, float]] = {
    "linear-regression": {"depth 1": 1.3, "depth 2": 0.25, "depth 1, dense": 32.0, "depth 1, kfo": 1.0},
    "logistic": {"depth 1": 5.0, "depth 3": 0.98995, "depth 1, meta-sgd": 4.0, "depth 1, kfo": 4.0},
    "glyphs-maml": {
        "depth 1": 0.4,
        "depth 2": 0.141421,
        "depth 4": 0.4,
        "depth 4, width 4": 0.4,
        "depth 1, 2 linear layers": 0.565685,
        "depth 1, 3 linear layers": 0.4,
        "depth 1, meta-sgd": 0.8,
        "depth 1, kfo": 2.262742,
        "depth 2, kfo": 1.131371,
        "depth 4, kfo": 0.8,
    },
    "glyphs-anil": {
        "depth 1": 3.2,
        "depth 4": 3.2,
        "depth 1, 2 linear layers": 0.4,
        "depth 1, kfo": 6.4,
        "depth 4, kfo": 6.4,
    },
}

# Query loss of the shallow model above the floor on the same pilot seeds, in nats (of half the squared error for
# linear regression).
SYNTHETIC_EXCESS: dict[str, float] = {"linear-regression": 0.0707, "logistic": 0.0598}
