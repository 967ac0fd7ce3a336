"""One entry for everything public that has state, weights or a configuration.

A new public class, or a new metric, without an entry here fails a test.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import tf_mopoe
from tests.sampling import random_experts
from tests.tiny_models import tiny_modality
from tf_mopoe import (
    MMJSD,
    MMVAE,
    MVAE,
    MoPoEVAE,
    MultimodalVAE,
    data,
    distributions,
    layers,
    metrics,
    nets,
    objectives,
    subsets,
)

MODULES = (
    tf_mopoe,
    data,
    distributions,
    layers,
    metrics,
    nets,
    objectives,
    subsets,
)
ROWS, MODALITIES, LATENT_DIM = 16, 3, 2
SAMPLER = subsets.SubsetSampler(3, [[0, 1, 2]])
PRESENT = np.array([[True, True, True], [True, False, True]] * (ROWS // 2))


class LayerCase(NamedTuple):
    """A layer, and tensors to call it with."""

    make: Callable[..., keras.layers.Layer]
    inputs: tuple[Any, ...]
    weights: int = 0


class ModelCase(NamedTuple):
    """A model with the modalities of `modalities()`."""

    cls: type[MultimodalVAE]
    kwargs: dict[str, Any]


def _experts():
    loc, scale = random_experts(ROWS, MODALITIES, LATENT_DIM, dtype="float32")
    return distributions.DiagonalGaussian(
        tf.constant(loc), tf.math.log(tf.constant(scale))
    )


def _components():
    return layers.SubsetProductOfExperts()(_experts(), PRESENT)


SEED = np.array([0, 1], "int32")

LAYERS = {
    "GaussianExpert": LayerCase(
        lambda **kw: layers.GaussianExpert(3, **kw),
        (np.random.default_rng(0).normal(size=(ROWS, 2, 2)).astype("float32"),),
        weights=4,
    ),
    "SubsetProductOfExperts": LayerCase(
        lambda **kw: layers.SubsetProductOfExperts(**kw), (_experts(), PRESENT)
    ),
    "SubsetProductOfExperts, sampled": LayerCase(
        lambda **kw: layers.SubsetProductOfExperts(
            SAMPLER, prior_expert="every_subset", **kw
        ),
        (_experts(), PRESENT),
    ),
    "MixtureOfExperts": LayerCase(
        lambda **kw: layers.MixtureOfExperts(seed=3, **kw),
        (_components(), PRESENT, SEED),
    ),
    "Log1p": LayerCase(
        lambda **kw: nets.Log1p([1, 2], **kw),
        (np.random.default_rng(0).uniform(0, 9, (ROWS, 3)).astype("float32"),),
    ),
}

MODELS = {
    "MoPoEVAE": ModelCase(MoPoEVAE, {"beta": 2.0}),
    "MoPoEVAE, sampled": ModelCase(MoPoEVAE, {"subsets": SAMPLER}),
    "MVAE": ModelCase(
        MVAE, {"random_subset_elbos": 1, "objective": "iwae", "num_samples": 2}
    ),
    "MMVAE": ModelCase(MMVAE, {"objective": "dreg", "num_samples": 3}),
    "MMJSD": ModelCase(MMJSD, {"beta_style": 0.5}),
    "MultimodalVAE": ModelCase(
        MultimodalVAE, {"subsets": [["a"], ["b", "c"]], "prior_expert": "none"}
    ),
}

DISTRIBUTIONS = {
    "MixtureOfProductsOfExperts": {},
    "MixtureOfProductsOfExperts, sampled": {"subsets": SAMPLER},
}

#: What an integration test and a slow test run on two replicas; MoPoEVAE is trained by
#: tests/models/test_replicas.py.
REPLICATED = ("MVAE", *LAYERS, *DISTRIBUTIONS)
REPLICATED_SLOWLY = ("MMVAE", "MMJSD", "MultimodalVAE")

#: Public classes and metrics without an entry, and why.
EXEMPT = {
    "Modality": "describes a part of a model; tested inside the models",
    "DiagonalGaussian": "a named tuple of two tensors",
    "Likelihood": "an entry of a table of functions; models save its name",
    "Support": "a named tuple of a description and a function",
    "DoublyReparameterized": "exists during one step only; tested inside the models",
    "SubsetSampler": "describes a mixture; tested in layers, models, distributions",
    "PolyDigits": "a named tuple of arrays",
    "ImageFolders": "a named tuple of arrays and names",
    "EncodedImage": "a named tuple of a shape",
    "DataError": "an exception",
    **dict.fromkeys(
        [
            "aggregate_posterior_samples",
            "attribute_coherence",
            "average_precision",
            "classifier_accuracy",
            "classifier_inputs",
            "conditional_coherence",
            "frechet_distance",
            "imputation_error",
            "interval_coverage",
            "joint_coherence",
            "latent_traversal",
            "linear_probe",
            "max_f_beta",
            "mean_by_number_given",
            "precision_recall_distribution",
            "precision_share",
            "sample_quality",
            "swap_styles",
        ],
        "a function without state",
    ),
    **dict.fromkeys(
        ["PrecisionRecall", "PrecisionShare", "Traversal"],
        "a named tuple of arrays",
    ),
    "default_classifier": "returns a plain keras.Sequential",
    "train_classifier": "returns a plain keras.Sequential",
    "classifier_features": "returns a plain Keras model of a classifier's layers",
    "inception_features": "wraps a model of keras.applications",
    "fit_gaussian_mixture": "returns a plain distribution of TFP",
    "fit_flow": "returns a distribution of TFP's bijectors, which has its own tests",
}


def public_names() -> set[str]:
    """Returns all public classes, and the public functions of `metrics`."""
    return {
        name
        for module in MODULES
        for name in getattr(module, "__all__", None) or vars(module)
        if not name.startswith("_")
        and (
            isinstance(getattr(module, name), type)
            or (module is metrics and callable(getattr(module, name)))
        )
        and getattr(getattr(module, name), "__module__", "").startswith("tf_mopoe")
    }


def modalities():
    """Returns modalities with three kinds of likelihood, a style and learned scales."""
    return [
        tiny_modality("a", style_dim=1, beta_style=2.0, likelihood_scale="per_element"),
        tiny_modality(
            "b", likelihood="negative_binomial", likelihood_scale="per_modality"
        ),
        tiny_modality("c", (4,), likelihood=[("normal", 1), ("categorical", 3)]),
    ]


def make_model(case: ModelCase) -> MultimodalVAE:
    """Makes the case's model, with weights from NumPy's generator."""
    model = case.cls(modalities(), LATENT_DIM, seed=0, **case.kwargs)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(0.3 * rng.normal(size=variable.shape))
    return model


def batch() -> dict[str, Any]:
    """Makes a batch of the model's modalities; "b" is missing in every other row."""
    rng = np.random.default_rng(1)
    one_hot = np.eye(3)[rng.integers(0, 3, ROWS)]
    return {
        "a": rng.normal(size=(ROWS, 3)).astype("float32"),
        "b": rng.poisson(2.0, size=(ROWS, 4)).astype("float32"),
        "c": np.concatenate([rng.normal(size=(ROWS, 1)), one_hot], 1).astype("float32"),
        "present": {"b": PRESENT[:, 1]},
    }


def make_distribution(kwargs: dict[str, Any], dtype="float32"):
    """Makes the case's distribution; one modality is missing in every other row."""
    loc, scale = random_experts(ROWS, MODALITIES, LATENT_DIM, dtype=dtype)
    return distributions.MixtureOfProductsOfExperts(loc, scale, PRESENT, **kwargs)
