"""Trackers are told of runs as they go on: settings, metrics, scores and figures; one that fails changes no run."""
