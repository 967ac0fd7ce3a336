"""Test set-up: quiet TensorFlow, the longest test first."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_collection_modifyitems(items):
    """Puts the README's tests first: they take the longest."""
    items.sort(key=lambda item: "test_readme" not in item.nodeid)
