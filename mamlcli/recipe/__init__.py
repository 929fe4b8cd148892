"""The keys of a recipe, their checks and their reference; no torch."""
