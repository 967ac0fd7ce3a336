"""Names that users import, and that each says what it is."""

import importlib
import inspect

import pytest

PUBLIC = {
    "tf_mopoe": {"Modality", "MoPoEVAE", "MultimodalVAE", "nets"},
    "tf_mopoe.distributions": {"MixtureOfProductsOfExperts", "product_of_gaussians"},
    "tf_mopoe.layers": {
        "GaussianExpert",
        "MixtureOfExperts",
        "SubsetProductOfExperts",
    },
    "tf_mopoe.nets": {"conv_encoder", "conv_decoder", "dense_encoder", "dense_decoder"},
    "tf_mopoe.metrics": {"conditional_coherence", "joint_coherence", "linear_probe"},
    "tf_mopoe.data": {"load_polydigits", "shuffled_batches", "ordered_batches"},
    "tf_mopoe.subsets": {"membership_mask"},
}


@pytest.mark.parametrize("module", PUBLIC)
def test_promised_names_are_there_and_documented(module):
    namespace = importlib.import_module(module)
    for name in PUBLIC[module] | set(getattr(namespace, "__all__", ())):
        value = getattr(namespace, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module}.{name} has no docstring"


def test_version_is_the_installed_one():
    from importlib.metadata import version

    import tf_mopoe

    assert version("tf-mopoe") == tf_mopoe.__version__
