"""Processes are started and stopped here: a pool with its jobs, the workers of one run, signals."""
