"""Recipes: a configuration, a model and data each, by name in `registry`."""
