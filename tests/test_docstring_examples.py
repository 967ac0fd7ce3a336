"""Examples in docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

import tf_mopoe

NAMES = {"np": np, "tf": tf, "Modality": tf_mopoe.Modality}
MODULES = [
    module.name for module in pkgutil.walk_packages(tf_mopoe.__path__, "tf_mopoe.")
]


def examples_in(name):
    finder = doctest.DocTestFinder(exclude_empty=True)
    module = importlib.import_module(name)
    return [test for test in finder.find(module, extraglobs=NAMES) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name, capsys):
    for test in examples_in(name):
        failed, _ = doctest.DocTestRunner().run(test)
        assert failed == 0, capsys.readouterr().out


def test_examples_are_found():
    assert sum(len(examples_in(name)) for name in MODULES) >= 3
