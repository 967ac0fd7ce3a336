"""Settings of a training run: the fields, files of them, and command lines."""
