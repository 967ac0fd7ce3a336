"""Models trained on several replicas are published as when loaded on one device."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from export import command
from export.verification.session import ServingSession
from tests.tiny_models import tiny_batch

ROOT = pathlib.Path(__file__).parents[2]


def assert_served_as(model, version, batch):
    session = ServingSession(version)
    rows = len(next(iter(batch.values())))
    feed = {**batch, **{f"has_{name}": np.ones(rows, bool) for name in batch}}
    for name, expected in (("encode", model.encode), ("serving_default", model)):
        answer = session.run(session.signatures[name], feed)
        for key, value in expected(batch).items():
            np.testing.assert_allclose(answer[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_model_with_mirrored_variables_is_published(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "tests.export.mirrored_export", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    refused, version = result.stdout.strip().splitlines()[-2:]
    assert "outside of its strategy's scope()" in refused
    assert not (tmp_path / "inside").exists()
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.optimizer.iterations == 3
    assert_served_as(model, version, tiny_batch("ab", rows=5))


@pytest.mark.slow
def test_run_of_two_worker_processes_is_published(tmp_path):
    run = tmp_path / "run"
    settings = ["pairings=1", "width=0.1", "latent_dim=4", "batch_size=256"]
    words = ["polydigits", "--out", str(run), "--epochs", "1", "--local-workers", "2"]
    subprocess.run(
        [sys.executable, "-m", "trainers.train", *words, "--set", *settings],
        cwd=ROOT,
        timeout=900,
        check=True,
    )
    arguments = [str(run), str(tmp_path / "serving"), "--num-samples", "3"]
    assert command.main(arguments) == 0
    random = np.random.default_rng(0)
    batch = {f"m{i}": random.random((3, 28, 28, 3), np.float32) for i in range(5)}
    model = keras.saving.load_model(run / "model.keras")
    assert_served_as(model, tmp_path / "serving" / "polydigits" / "1", batch)
