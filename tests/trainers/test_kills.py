"""A training that is killed repeatedly ends as an uninterrupted one."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from keras.ops import convert_to_numpy

from trainers.runs.run_folder import RunFolder

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 20
SETTINGS = [
    *("pairings=1", "width=0.1", "latent_dim=4", "batch_size=64", "threads=2"),
    *("checkpoint_steps=2", "epochs=14"),
]


def command(out):
    program = [sys.executable, "-m", "trainers.train", "polydigits", "--out", str(out)]
    return [*program, "--set", *SETTINGS]


def start(out, log):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        command(out), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
    )


def steps_done(out):
    """Number of steps of the newest checkpoint."""
    paths = RunFolder(out).checkpoints.paths()
    return int(paths[-1].name.split("-")[1]) if paths else 0


def everything(out):
    run = RunFolder(out)
    model = run.load_model()
    variables = [*model.weights, *model.optimizer.variables]
    return (
        [convert_to_numpy(variable).tobytes() for variable in variables],
        json.loads(run.history_file.read_text()),
        run.csv_file.read_text(),
        run.checkpoints.find().state,
    )


def kill(process, out, moments):
    """Kills the process during its start or after a checkpoint; returns the steps."""
    if moments.random() < 0.25:
        time.sleep(moments.uniform(0, 15))
    else:
        before = steps_done(out)
        while steps_done(out) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 2.5))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before"
    return steps_done(out)


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began, moments = time.monotonic(), random.Random(0)
    with open(tmp_path / "log", "w+") as log:
        assert start(whole, log).wait() == 0
        at = [kill(start(killed, log), killed, moments) for _ in range(KILLS)]
        assert start(killed, log).wait() == 0
        log.seek(0)
        message = log.read()
    assert "Traceback" not in message
    print(f"killed after steps {at}; {time.monotonic() - began:.0f} s")
    assert everything(killed) == everything(whole)
