"""Checks of a SavedModel in a process that has only what a server has."""
