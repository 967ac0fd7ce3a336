"""Test set-up: quiet TensorFlow, and names for the docstrings' examples."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _names_in_docstring_examples(request):
    if not isinstance(request.node, pytest.DoctestItem):
        return
    import tensorflow as tf

    import tf_mopoe

    namespace = request.getfixturevalue("doctest_namespace")
    namespace.update(np=np, tf=tf, Modality=tf_mopoe.Modality)
