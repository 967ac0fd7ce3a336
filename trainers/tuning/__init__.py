"""Studies: search for settings with Optuna, one run folder a trial."""
