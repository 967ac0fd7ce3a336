"""The folder of a run: settings, checkpoints, history and model."""
