"""Several replicas do what one device does: weights, metrics, predictions."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.models.replica_runs import CASES, COMPILED
from tf_mopoe.models.replicas import check_replicas_can

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.integration
#: What two processes do as one does; it has all that is gathered.
OF_WORKERS = "holes"


def start(out, names=(), **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.models.replica_runs", str(out), *names],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **environment,
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result_of(process, out):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    out = tmp_path_factory.mktemp("mirrored") / "results.json"
    return result_of(start(out), out)


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for listener in sockets:
            listener.bind(("localhost", 0))
        hosts = [f"localhost:{listener.getsockname()[1]}" for listener in sockets]
    processes, outs = [], []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": hosts}, "task": task})
        outs.append(folder / f"{index}.json")
        processes.append(start(outs[-1], [OF_WORKERS], TF_CONFIG=config))
    return [result_of(process, out) for process, out in zip(processes, outs)]


def assert_same(actual, expected, tolerance=2e-6):
    (history, weights, predicted), (of_one, weights_of_one, predicted_by_one) = (
        actual,
        expected,
    )
    assert set(history) == set(of_one)
    for name, values in of_one.items():
        # float32 sums in another order.
        np.testing.assert_allclose(history[name], values, rtol=1e-5, err_msg=name)
    for left, right in zip(weights, weights_of_one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=tolerance)
    for left, right in zip(predicted, predicted_by_one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=10 * tolerance)


@pytest.mark.parametrize("name", [name for name in CASES if "overflow" not in name])
def test_two_replicas_train_like_one_device(name, mirrored):
    two, one = mirrored[name]
    assert_same(two, one)


def test_noise_matters(mirrored):
    """Else the cases with it would say no more than those without."""
    loud, quiet = mirrored["complete"][0], mirrored["complete without noise"][0]
    assert abs(loud[0]["loss"][0] - quiet[0]["loss"][0]) > 1e-3


@pytest.mark.parametrize(
    ("optimizer", "steps", "named"),
    [
        (keras.optimizers.SGD(), 2, "steps_per_execution"),
        (
            keras.optimizers.SGD(gradient_accumulation_steps=2),
            1,
            "gradient_accumulation_steps",
        ),
    ],
)
def test_what_keras_gets_wrong_on_replicas_is_refused(optimizer, steps, named):
    with pytest.raises(ValueError, match=f"`{named}` .* on several replicas"):
        check_replicas_can(optimizer, steps)
    wrapped = keras.optimizers.LossScaleOptimizer(optimizer)
    with pytest.raises(ValueError, match=f"`{named}`"):
        check_replicas_can(wrapped, steps)


def test_overflow_in_one_replica_skips_the_step_on_all(mirrored):
    """Loss scaling skips it on all, as on one device."""
    (_, two, _), (_, one, _) = mirrored["overflow in one replica"]
    for left, right in zip(two, one, strict=True):
        assert np.isfinite(left).all()
        np.testing.assert_allclose(left, right, atol=5e-3)  # 16 bits


@pytest.mark.parametrize("index", [0, 1])
def test_two_processes_train_like_one(index, workers, mirrored):
    assert_same(workers[index][OF_WORKERS][0], mirrored[OF_WORKERS][1])


@pytest.mark.slow
def test_compiled_replicas_train_like_one_device_that_is_not(tmp_path):
    out = tmp_path / "results.json"
    results = result_of(start(out, COMPILED), out)
    assert set(results) == set(COMPILED)
    for two, one in results.values():
        assert_same(two, one, tolerance=1e-5)
