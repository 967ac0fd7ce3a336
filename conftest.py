"""Test set-up: quiet TensorFlow, the longest file first."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_collection_modifyitems(items):
    """Starts with the README, lest one process be left alone with it at the end."""
    items.sort(key=lambda item: "test_readme" not in item.nodeid)
