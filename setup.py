"""Packages of the distribution; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    packages=[
        "tf_mopoe",
        "tf_mopoe.data",
        "tf_mopoe.distributions",
        "tf_mopoe.layers",
        "tf_mopoe.metrics",
        "tf_mopoe.models",
        "tf_mopoe.nets",
        "tf_mopoe.objectives",
        "trainers",
        "trainers.recipes",
        "export",
    ],
)
