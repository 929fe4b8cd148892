"""What a run has on disk: read, listed, compared, exported; no torch."""
