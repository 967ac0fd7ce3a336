"""Examples in docstrings run and give what they say."""

import doctest
import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_mopoe

#: Names that examples may use without an import.
NAMES = {"keras": keras, "np": np, "tf": tf, "Modality": tf_mopoe.Modality}
#: Modules whose public names make up the interface of the library.
PUBLIC = (
    "tf_mopoe",
    "tf_mopoe.data",
    "tf_mopoe.distributions",
    "tf_mopoe.layers",
    "tf_mopoe.metrics",
    "tf_mopoe.models",
    "tf_mopoe.nets",
    "tf_mopoe.objectives",
    "tf_mopoe.subsets",
)


def modules_of(package):
    path = importlib.import_module(package).__path__
    return [module.name for module in pkgutil.walk_packages(path, f"{package}.")]


def examples_in(value, name=None):
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for test in finder.find(value, name, globs={}) if test.examples]


@pytest.mark.integration
@pytest.mark.parametrize("package", ["tf_mopoe", "trainers", "export"])
def test_examples_give_what_they_say(package, capsys):
    count = 0
    for name in modules_of(package):
        module = importlib.import_module(name)
        for test in examples_in(module):
            test.globs = {**vars(module), **NAMES}
            failed, _ = doctest.DocTestRunner().run(test)
            assert failed == 0, capsys.readouterr().out
            count += 1
    assert count >= 3 or package != "tf_mopoe"


def public_members(module):
    """Public classes and functions of a module, by name."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and name[0] != "_"
    ]
    members = {name: getattr(module, name) for name in names}
    return {
        name: value
        for name, value in members.items()
        if inspect.isclass(value) or inspect.isfunction(value)
    }


def test_public_names_have_an_example():
    missing = [
        f"{name}.{member}"
        for name in PUBLIC
        for member, value in public_members(importlib.import_module(name)).items()
        if not examples_in(value, member)
    ]
    assert not missing
