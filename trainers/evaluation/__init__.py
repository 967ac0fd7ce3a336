"""Evaluation of trained runs: measures, figures and the report."""
