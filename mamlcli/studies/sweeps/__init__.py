"""A study sweeps the values of an axis times seeds, each cell a run."""
