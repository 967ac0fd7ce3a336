"""Names that users import: present, documented, and imported when first used."""

import importlib
import inspect
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import tf_mopoe
from tests.tiny_models import tiny_batch, tiny_model
from tf_mopoe import nets
from tf_mopoe.saved_classes import SAVED_CLASSES, DeferredClass, defer_saved_classes

ROOT = pathlib.Path(__file__).parents[1]

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


def test_public_names_exist_and_are_documented():
    for module, names in PUBLIC.items():
        namespace = importlib.import_module(module)
        for name in names | set(getattr(namespace, "__all__", ())):
            value = getattr(namespace, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert inspect.getdoc(value), f"{module}.{name} has no docstring"


#: Packages whose public classes and functions have an example in their docstrings.
WITH_EXAMPLES = ("distributions", "layers", "nets", "objectives", "subsets")


@pytest.mark.parametrize("package", WITH_EXAMPLES)
def test_public_names_have_an_example(package):
    namespace = importlib.import_module(f"tf_mopoe.{package}")
    names = getattr(namespace, "__all__", None) or [
        name
        for name, value in vars(namespace).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == namespace.__name__
    ]
    values = {name: getattr(namespace, name) for name in names}
    without = [
        name
        for name, value in values.items()
        if callable(value) and ">>> " not in (value.__doc__ or "")
    ]
    assert not without


def test_version_is_the_installed_one():
    from importlib.metadata import version

    assert version("tf-mopoe") == tf_mopoe.__version__


def test_dir_lists_what_is_not_imported_yet():
    assert set(tf_mopoe.__all__) <= set(dir(tf_mopoe))
    with pytest.raises(AttributeError, match="'tf_mopoe' has no attribute 'nothing'"):
        tf_mopoe.nothing  # noqa: B018


def run_python(code, *arguments):
    """Runs code in a fresh interpreter, where this library is not imported yet."""
    subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code, *arguments],
        cwd=ROOT,
        check=True,
        timeout=300,
    )


IMPORTED = """
import sys
def imported(*packages):
    return {name for name in sys.modules if name.split(".")[0] in packages}
"""


def test_a_bare_import_imports_neither_tensorflow_nor_keras():
    run_python(
        IMPORTED
        + """
import tf_mopoe
assert tf_mopoe.__version__
import tf_mopoe.checks
found = imported("tensorflow", "keras", "numpy")
assert not found, found
"""
    )


@pytest.mark.integration
def test_distributions_and_subsets_import_no_other_part_of_the_library():
    # TensorFlow itself imports Keras, so that Keras is loaded cannot be avoided.
    run_python(
        IMPORTED
        + """
import tf_mopoe.distributions, tf_mopoe.subsets
parts = {name.split(".")[1] for name in imported("tf_mopoe") if "." in name}
allowed = {"checks", "distributions", "saved_classes", "subsets", "version"}
assert parts == allowed, parts - allowed
import tf_mopoe
for name in tf_mopoe.__all__:
    getattr(tf_mopoe, name)
assert tf_mopoe.metrics.joint_coherence and tf_mopoe.data.from_frame
"""
    )


@pytest.mark.integration
def test_keras_loads_a_saved_model_after_a_bare_import(tmp_path):
    model, batch = tiny_model(), tiny_batch()
    model.compile("adam")
    model.fit(batch, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    network = nets.default_encoder((3,), count_columns=[1])
    network.save(tmp_path / "network.keras")
    np.savez(tmp_path / "batch.npz", **batch)
    run_python(
        IMPORTED
        + """
import tf_mopoe
import keras, numpy as np
assert "tf_mopoe.models" not in sys.modules
network = keras.saving.load_model(sys.argv[1] + "/network.keras")
assert type(network.layers[0]).__name__ == "Log1p"
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
assert type(model) is tf_mopoe.MoPoEVAE
mean = model(dict(np.load(sys.argv[1] + "/batch.npz")))["a"]
np.save(sys.argv[1] + "/mean.npy", mean)
""",
        str(tmp_path),
    )
    expected = model(batch)["a"]
    np.testing.assert_allclose(np.load(tmp_path / "mean.npy"), expected, rtol=1e-5)


def test_saved_classes_are_those_that_the_library_registers():
    for module in SAVED_CLASSES:
        importlib.import_module(module)
    registered = {
        name.partition(">")[2]
        for name, value in keras.saving.get_custom_objects().items()
        if name.startswith("tf_mopoe>") and not isinstance(value, DeferredClass)
    }
    assert registered == {name for names in SAVED_CLASSES.values() for name in names}


def test_classes_are_deferred_if_keras_is_imported_already(monkeypatch):
    registry = keras.saving.get_custom_objects()
    monkeypatch.delitem(registry, "tf_mopoe>Log1p")
    defer_saved_classes()
    assert registry["tf_mopoe>Log1p"] == DeferredClass(
        "tf_mopoe>Log1p", "tf_mopoe.nets"
    )
    assert registry["tf_mopoe>MoPoEVAE"] is tf_mopoe.MoPoEVAE
