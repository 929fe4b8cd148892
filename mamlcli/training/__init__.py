"""A recipe becomes a trained, scored run."""
