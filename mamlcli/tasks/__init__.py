"""Task distributions: where episodes come from."""
