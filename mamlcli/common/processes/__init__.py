"""Processes: jobs of a pool, the workers of one run, signals."""
