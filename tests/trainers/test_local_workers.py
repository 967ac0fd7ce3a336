"""Several workers, or several devices, train the same model as one device."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from trainers import train
from trainers.runs.run_folder import RunFolder

ROOT = pathlib.Path(__file__).parents[2]
#: 57 steps, with holes.
SETTINGS = [
    *("--epochs", "3", "--set", "pairings=1", "width=0.1", "latent_dim=4"),
    *("batch_size=64", "missing=0.3", "clip_norm=1000"),
]
MIRRORED = ["strategy=mirrored", "devices=2"]
WORKERS = ["--local-workers", "2"]


def start(out, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "trainers.train", "polydigits", "--out", str(out)]
        + [*(x for x in more if "=" not in x), *SETTINGS]
        + [x for x in more if "=" in x],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(out, *more, code=0):
    process = start(out, *more)
    message, _ = process.communicate(timeout=600)
    assert process.returncode == code, message[-4000:]
    return message


def assert_same_run(left, right):
    ours, theirs = (
        json.loads((folder / "history.json").read_text()) for folder in (left, right)
    )
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-4, err_msg=name)
    models = [RunFolder(folder).load_model() for folder in (left, right)]
    assert {int(model.optimizer.iterations) for model in models} == {57}
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    run(out)
    return out


@pytest.mark.slow
def test_two_processes_train_polydigits_as_one(alone, tmp_path):
    message = run(tmp_path / "run", *WORKERS)
    assert "2 devices" in message
    assert message.count("Trained 3 of 3 epochs") == 1
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.slow  # `tests/models/test_replicas.py` has a tiny model on them
def test_two_devices_train_polydigits_as_one(alone, tmp_path):
    assert "2 devices" in run(tmp_path / "run", *MIRRORED)
    assert_same_run(tmp_path / "run", alone)


def wait_for_checkpoint(process, out):
    while process.poll() is None and not list(out.glob("checkpoints/step-*")):
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0][-4000:]


def workers_of(process):
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("index", [0, 1])
def test_run_resumes_after_a_worker_died(index, alone, tmp_path):
    out = tmp_path / "run"
    process = start(out, "checkpoint_steps=5", *WORKERS)
    wait_for_checkpoint(process, out)
    os.kill(workers_of(process)[index], signal.SIGKILL)
    message, _ = process.communicate(timeout=300)
    assert process.returncode == 1, message[-4000:]
    last = message.splitlines()[-1]
    assert f"worker {index} of 2 died (killed by SIGKILL)" in last
    assert "run the same command again to resume" in last
    assert "Traceback" not in message
    assert "Resuming" in run(out, "checkpoint_steps=5", *WORKERS)
    assert_same_run(out, alone)


@pytest.mark.slow
def test_workers_stopped_by_a_signal_resume(alone, tmp_path):
    out = tmp_path / "run"
    process = start(out, "checkpoint_steps=5", *WORKERS)
    wait_for_checkpoint(process, out)
    process.send_signal(signal.SIGTERM)
    message, _ = process.communicate(timeout=300)
    assert process.returncode == 75, message[-4000:]
    assert "Traceback" not in message
    assert "Resuming" in run(out)  # on one device
    assert_same_run(out, alone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--local-workers", "2", *MIRRORED], "Received: strategy=mirrored."),
        (["strategy=multi_worker"], "needs the environment variable TF_CONFIG"),
        (["strategy=mirrored"], "found no GPU on this host"),
    ],
)
def test_impossible_strategies_are_refused_in_one_line(
    arguments, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    out = tmp_path / "run"
    settings = [x for x in arguments if "=" in x]
    options = [x for x in arguments if "=" not in x]
    line = ["polydigits", "--out", str(out), *options]
    assert train.main([*line, *(["--set", *settings] if settings else [])]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_single_local_worker_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["polydigits", "--out", str(tmp_path), "--local-workers", "1"])
    assert stopped.value.code == 2
    assert "expected an integer from 2 to 2^31 - 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_tf_config_of_another_form_is_refused(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    arguments = ["polydigits", "--out", str(tmp_path), "--set"]
    assert train.main([*arguments, "strategy=multi_worker"]) == 2
    assert "TF_CONFIG" in capsys.readouterr().err
