"""Fixtures of the trainers' tests."""

import functools
import importlib

import pytest

from tests.data.made_digits import write_backgrounds, write_digits, write_faces
from tests.trainers.recipe_files import run_train
from tests.trainers.tiny_training import run


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Small files of all kinds, and a folder for TFDS's data sets."""
    folder = tmp_path_factory.mktemp("made")
    write_digits(folder / "mnist.npz", train=120, test=20)
    write_digits(folder / "svhn.npz", train=60, test=20, shape=(32, 32, 3))
    write_backgrounds(folder / "photos")
    write_faces(folder / "celeba", [0] * 8 + [1] * 4 + [2] * 8)
    return folder


@pytest.fixture(scope="session")
def runs(made):
    """A function that trains one epoch of a recipe, once per session."""

    def trained(recipe):
        out = made / "runs" / recipe
        if not out.exists():
            assert run_train(recipe, made, out) == 0
        return out

    return trained


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(out, checkpoint_steps=3)
    return out


@pytest.fixture(scope="module")
def quick_measures():
    """Fewer epochs, rows and draws where the metrics' tests check the quality."""
    from tf_mopoe import metrics

    quick = functools.partial(metrics.fit_flow, epochs=2, num_layers=2)
    imputation = importlib.import_module("trainers.evaluation.measures.imputation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "fit_flow", quick)
        patch.setattr(imputation, "RIDGE_ROWS", 200)
        patch.setattr(imputation, "CALIBRATION_SAMPLES", 40)
        yield
