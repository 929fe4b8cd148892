"""Recipes, found by their names."""
