"""Packages of the distribution; everything else is in pyproject.toml."""

from setuptools import setup

setup(
    packages=[
        "tf_mopoe",
        "tf_mopoe.data",
        "tf_mopoe.data.bimodal_celeba",
        "tf_mopoe.data.mnist_svhn_text",
        "tf_mopoe.data.poly_mnist",
        "tf_mopoe.distributions",
        "tf_mopoe.layers",
        "tf_mopoe.metrics",
        "tf_mopoe.models",
        "tf_mopoe.nets",
        "tf_mopoe.objectives",
        "trainers",
        "trainers.config",
        "trainers.evaluation",
        "trainers.evaluation.measures",
        "trainers.fitting",
        "trainers.recipes",
        "trainers.runs",
        "trainers.tuning",
        "export",
        "export.client",
        "export.portable",
        "export.publication",
        "export.signatures",
        "export.verification",
    ],
)
