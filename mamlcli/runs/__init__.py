"""Runs on disk: how they are read, written, listed, compared and exported, without torch."""
