"""Names that users import, and that each says what it is."""

import importlib
import inspect

import pytest

PUBLIC = {
    "tf_mopoe": {
        "Modality",
        "MMJSD",
        "MMVAE",
        "MVAE",
        "MoPoEVAE",
        "MultimodalVAE",
        "nets",
    },
    "tf_mopoe.distributions": {
        "LIKELIHOODS",
        "Likelihood",
        "MixtureOfProductsOfExperts",
        "product_of_gaussians",
    },
    "tf_mopoe.layers": {
        "GaussianExpert",
        "MixtureOfExperts",
        "SubsetProductOfExperts",
    },
    "tf_mopoe.nets": {
        f"{kind}_{side}"
        for kind in ("conv", "dense", "svhn", "text", "residual_image", "residual_text")
        for side in ("encoder", "decoder")
    },
    "tf_mopoe.metrics": {"conditional_coherence", "joint_coherence", "linear_probe"},
    "tf_mopoe.data": {
        "decode_text",
        "drop_at_random",
        "drop_by_table",
        "drop_depending_on",
        "encode_text",
        "from_anndata",
        "from_frame",
        "from_image_folders",
        "from_tfrecords",
        "load_polydigits",
        "mark_missing",
        "ordered_batches",
        "shuffled_batches",
        "write_tfrecords",
    },
    "tf_mopoe.objectives": {"negative_elbo", "negative_iwae"},
    "tf_mopoe.subsets": {"SubsetSampler", "membership_mask"},
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
