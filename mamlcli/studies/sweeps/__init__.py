"""Studies: values of an axis times seeds, each cell a run."""
