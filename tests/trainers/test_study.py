"""Studies of `mopoe-tune` that are stopped, killed or shared give the same trials."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import optuna
import pytest
import tensorflow as tf

from tests.trainers.fake_training import (
    EPOCHS,
    caused_by,
    failing,
    fake_train,
    in_context_of,
    parameters,
    run_tune,
    states,
    summary,
)
from trainers.errors import Stopped, UsageError
from trainers.runs.run_folder import RunFolder
from trainers.tuning import run_trial, study_folder

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    monkeypatch.setattr(run_trial, "train", fake_train)
    monkeypatch.setattr(keras.utils, "clear_session", lambda: None)  # is slow


def test_trials_depend_on_the_seed_but_not_on_interruptions(
    tmp_path,
):
    for name in ("once", "pieces", "other"):
        seed = "seed=1" if name == "other" else "seed=0"
        counts = (
            range(1, 13) if name == "pieces" else [12]
        )  # TPE proposes from the 11th
        for count in counts:
            assert run_tune(tmp_path / name, "--set", seed, count=count) == 0
    once, pieces, other = (
        parameters(tmp_path / name) for name in ("once", "pieces", "other")
    )
    assert once == pieces
    assert len({trial["beta"] for trial in once + other}) == 24


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (caused_by(OSError(28, "No space left on device")), 1),
        (caused_by(tf.errors.DataLossError(None, None, "truncated record")), 1),
        (tf.errors.ResourceExhaustedError(None, None, "No space left on device"), None),
        (in_context_of(OSError(28, "No space left on device")), 1),
        (OSError(28, "No space left on device"), 1),
        (UsageError("data_dir: there is none"), 2),
        (Stopped("stopped by SIGTERM after step 5."), 75),
    ],
)
def test_failure_not_due_to_parameters_stops_the_study_which_resumes(
    error, code, tmp_path, monkeypatch, capsys
):
    whole = tmp_path / "whole"
    assert run_tune(whole) == 0
    out = tmp_path / "stopped"
    monkeypatch.setattr(run_trial, "train", failing(error, number=1))
    if code is None:
        with pytest.raises(type(error)):
            run_tune(out)
    else:
        assert run_tune(out) == code
        assert capsys.readouterr().err.strip().count("\n") == 0
    monkeypatch.setattr(run_trial, "train", fake_train)
    assert run_tune(out) == 0
    assert summary(out) == summary(whole)
    log = (out / "trials" / "00001" / "train.log").read_text()
    assert log == "epoch 0\nepoch 1\nepoch 2\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_study_and_the_same_command_resumes(
    number, tmp_path, monkeypatch, capsys
):
    def train(*arguments, **keywords):
        fake_train(*arguments, **keywords)
        signal.raise_signal(number)  # when training has given up its handlers

    assert run_tune(tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(run_trial, "train", train)
        for _ in range(2):
            assert run_tune(tmp_path / "stopped") == 75
            assert number.name in capsys.readouterr().err
    assert run_tune(tmp_path / "stopped") == 0
    assert summary(tmp_path / "stopped") == summary(tmp_path / "whole")


BLOCKED = """
import sys, time
from tests.trainers.fake_training import fake_train, run_tune
from trainers.tuning import run_trial

def train(recipe_name, recipe, config, out, *, callbacks):
    first = config.model_copy(update={"epochs": 1})
    fake_train(recipe_name, recipe, first, out, callbacks=callbacks)
    open(sys.argv[1] + "/ready", "w").close()
    time.sleep(600)

run_trial.train = train
run_tune(sys.argv[1])
"""


@pytest.mark.integration
def test_trial_of_a_killed_process_is_resumed_by_the_next_process(tmp_path, capsys):
    whole, out = tmp_path / "whole", tmp_path / "shared"
    assert run_tune(whole) == 0
    out.mkdir()
    other = subprocess.Popen([sys.executable, "-c", BLOCKED, str(out)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not (out / "ready").exists() and time.monotonic() < deadline:
            assert other.poll() is None
            time.sleep(0.05)
        capsys.readouterr()
        assert run_tune(out) == 0
        assert states(out) == ["running", "complete", "complete"]
        assert "Other processes train the running ones" in capsys.readouterr().out
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert run_tune(out) == 0
    assert summary(out) == summary(whole)
    log = (out / "trials" / "00000" / "train.log").read_text()
    assert log == "epoch 0\nepoch 1\nepoch 2\n"


def test_trial_killed_before_its_parameters_were_drawn_gets_the_same_ones(
    tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    assert run_tune(tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "_suggest", kill)
        with pytest.raises(Killed):
            run_tune(tmp_path / "died")
    assert run_tune(tmp_path / "died") == 0
    assert summary(tmp_path / "died") == summary(tmp_path / "whole")


def test_trial_that_repeatedly_kills_its_process_fails(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    monkeypatch.setattr(study_folder, "MAX_STARTS", 2)
    monkeypatch.setattr(run_trial, "train", failing(Killed(), number=1))
    for _ in range(3):
        with pytest.raises(Killed):
            run_tune(tmp_path)
    assert run_tune(tmp_path) == 0
    assert states(tmp_path) == ["complete", "fail", "complete"]
    assert "killed 2 times" in summary(tmp_path)[1]["reason"]


def test_trial_that_progresses_between_kills_continues(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def one_more_epoch(recipe_name, recipe, config, out, *, callbacks):
        file = RunFolder(out).history_file
        done = len(json.loads(file.read_text())["loss"]) if file.exists() else 0
        next_one = config.model_copy(update={"epochs": done + 1})
        fake_train(recipe_name, recipe, next_one, out, callbacks=callbacks)
        if done + 1 < config.epochs:
            raise Killed

    monkeypatch.setattr(study_folder, "MAX_STARTS", 1)
    monkeypatch.setattr(run_trial, "train", one_more_epoch)
    for _ in range(EPOCHS - 1):
        with pytest.raises(Killed):
            run_tune(tmp_path, count=1)
    assert run_tune(tmp_path, count=1) == 0
    assert states(tmp_path) == ["complete"]


def test_repeated_epoch_is_reported_once(tmp_path, monkeypatch):
    def forgetful(recipe_name, recipe, config, out, *, callbacks):
        (pathlib.Path(out) / "history.json").unlink(missing_ok=True)
        fake_train(recipe_name, recipe, config, out, callbacks=callbacks)

    monkeypatch.setattr(run_trial, "train", failing(Stopped(), number=1))
    assert run_tune(tmp_path) == 75
    monkeypatch.setattr(run_trial, "train", forgetful)
    assert run_tune(tmp_path) == 0  # Optuna warns of what comes twice
    assert states(tmp_path) == ["complete"] * 3


def test_journal_that_ends_within_a_line_is_repaired(tmp_path):
    assert run_tune(tmp_path, count=2) == 0
    journal = tmp_path / "study.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":4,"wor')
    assert run_tune(tmp_path) == 0
    assert states(tmp_path) == ["complete"] * 3
    assert run_tune(tmp_path) == 0


def test_unreadable_journal_is_one_line_with_code_1(tmp_path, capsys):
    (tmp_path / "study.log").write_text("{\n{\n")
    assert run_tune(tmp_path) == 1
    error = capsys.readouterr().err
    assert "study.log is damaged" in error
    assert error.count("\n") == 1


def test_no_setting_of_a_study_may_change(tmp_path):
    space = {"beta": optuna.distributions.FloatDistribution(0.5, 1.0)}
    options = {"maximize": True, "seed": 0, "warmup_epochs": 1}
    values = [None, 1, 0.5, "x", [0.25], False]
    for number, value in enumerate(values):
        out = tmp_path / str(number)
        settings = {"recipe": "polydigits", "setting": value}
        study_folder.StudyFolder(out, settings, space, **options)
        study_folder.StudyFolder(out, settings, space, **options)
        before = (out / "study.log").read_bytes()
        for other in (x for x in [*values, 2, "y", True] if x != value):
            settings["setting"] = other
            with pytest.raises(UsageError, match="is a study with setting="):
                study_folder.StudyFolder(out, settings, space, **options)
        assert (out / "study.log").read_bytes() == before
