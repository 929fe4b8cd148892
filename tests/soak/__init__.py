"""The harness of docs/RELIABILITY.md: runs are killed at every point and at any instant, and must end in the same bits.

`python -m tests.soak` (make soak) does all of it; `test_soak` a part.
"""
