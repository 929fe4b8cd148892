"""Recipes are here: their keys, how they are read, checked, changed and described; no torch is loaded."""
