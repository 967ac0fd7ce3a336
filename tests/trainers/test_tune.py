"""`mopoe-tune`: what it proposes, prunes, prints and refuses."""

import json
import os
import pathlib
import statistics
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from tests.trainers.fake_training import (
    EPOCHS,
    caused_by,
    failing,
    fake_train,
    parameters,
    run_tune,
    states,
    summary,
)
from tests.trainers.tiny_training import RECIPE
from trainers.errors import RunError
from trainers.fitting import loggers
from trainers.recipes.registry import RECIPES, recipe_of_settings
from trainers.runs.run_folder import RunFolder
from trainers.tuning import run_trial

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_training(request, monkeypatch):
    if "real" not in request.fixturenames:
        monkeypatch.setattr(run_trial, "train", fake_train)
        monkeypatch.setattr(keras.utils, "clear_session", lambda: None)  # is slow


@pytest.fixture
def real():
    """Turns the stub of training off."""


@pytest.mark.slow
def test_real_trials_are_run_folders_of_their_parameters(
    real, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(RECIPES, "tiny", RECIPE)
    out = tmp_path / "study"
    space = ["--space", "latent_dim=2:4", "precision=float32,mixed_bfloat16"]
    assert run_tune(out, *space, epochs=1, count=2, recipe="tiny") == 0
    message = capsys.readouterr().out
    for number, trial in enumerate(summary(out)):
        run = RunFolder(out / trial["run"])
        config = recipe_of_settings(run.read_settings()).config
        assert {name: getattr(config, name) for name in trial["parameters"]} == (
            trial["parameters"]
        )
        assert run.load_model().latent_dim == trial["parameters"]["latent_dim"]
        history = json.loads(run.history_file.read_text())
        bound = history["val_a_log_likelihood"][0] - history["val_kl_bound"][0]
        assert trial["value"] == pytest.approx(bound, rel=1e-12)
        assert message.count(f"Trial {number}: ") == 1
        assert "loss" in (run.path / "train.log").read_text()
    assert "loss:" not in message


def test_best_trials_come_first_with_commands_for_the_best(tmp_path, capsys):
    assert run_tune(tmp_path, count=7) == 0
    *_, head, first, second, _, _, _, best, evaluate, train = (
        capsys.readouterr().out.splitlines()
    )
    ranked = [t for t in summary(tmp_path) if t["state"] == "complete"]
    ranked.sort(key=lambda trial: -trial["value"])
    assert head.split()[:3] == ["trial", "val_elbo", "epoch"]
    assert int(first.split()[0]) == ranked[0]["number"]
    assert int(second.split()[0]) == ranked[1]["number"]
    assert ranked[0]["epoch"] == EPOCHS
    run = str(tmp_path / ranked[0]["run"])
    assert best.endswith(run)
    assert evaluate.endswith(f"mopoe-evaluate {run}")
    assert f"--config {run}/config.json --out {run} --epochs {2 * EPOCHS}" in train


def test_same_command_adds_nothing_to_a_complete_study(tmp_path, capsys):
    assert run_tune(tmp_path) == 0
    before = parameters(tmp_path)
    capsys.readouterr()
    assert run_tune(tmp_path) == 0
    assert "3 trials: 3 complete." in capsys.readouterr().out
    assert parameters(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "2"], "epochs=3, not 2"),
        (["--set", "warmup=0"], "warmup=0.6, not 0.0"),
        (["--set", "seed=3"], "seed=0, not 3"),
        (["--space", "beta=1:2"], "--space beta='0.5:50.0:log', not '1.0:2.0'"),
        (["--space", "width=0.5:1"], "--space width=None, not '0.5:1.0'"),
        (["--set", "beta=2"], "--space beta='0.5:50.0:log', not None"),
        (["--monitor", "val_loss"], "--monitor='val_elbo', not 'val_loss'"),
    ],
)
def test_another_study_in_the_folder_is_refused_by_field(
    arguments, message, tmp_path_factory, capsys
):
    out = tmp_path_factory.getbasetemp() / "asked"
    if not out.exists():
        assert run_tune(out, count=1) == 0
    before = (out / "study.log").read_text()
    capsys.readouterr()
    assert run_tune(out, *arguments, count=2) == 2
    error = capsys.readouterr().err
    assert f"is a study with {message}." in error
    assert error.count("\n") == 1
    assert (out / "study.log").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "beta=3:1"], "--space beta: expected"),
        (["--set", "bta=3"], "unknown setting 'bta'"),
        (["--set", "strategy=multi_worker"], "strategy: a trial is trained by one"),
        (["--out", ""], "--out: expected a folder"),
    ],
)
def test_wrong_usage_is_one_line_with_code_2_and_writes_nothing(
    arguments, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run_tune(tmp_path / "study", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "many"])
def test_wrong_number_of_trials_is_one_line_with_code_2(count, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_tune(tmp_path / "study", "--trials", count)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert f"--trials: expected an integer from 1 to 2^31 - 1, not '{count}'" in error
    assert error.count("\n") == 1


def test_a_file_where_the_study_should_be_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_tune(tmp_path / "file" / "study") == 2
    assert "--out: can't write" in capsys.readouterr().err


def test_missing_tracker_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "PACKAGES", {"wandb": "no_such_package"})
    assert run_tune(tmp_path / "study", "--set", "wandb=project") == 2
    assert not (tmp_path / "study").exists()


def test_missing_optuna_is_one_line_with_the_command_to_install_it(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run_tune(tmp_path / "study") == 2
    assert "pip install 'tf-mopoe[tune]'" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_trials_far_behind_the_others_are_pruned_before_their_last_epoch(tmp_path):
    assert run_tune(tmp_path, epochs=6, count=12) == 0
    ends = {
        trial["number"]: len(
            json.loads((tmp_path / trial["run"] / "history.json").read_text())["loss"]
        )
        for trial in summary(tmp_path)
    }
    pruned = [t["number"] for t in summary(tmp_path) if t["state"] == "pruned"]
    assert pruned
    assert min(pruned) >= 5  # so many to compare with
    distances = {True: [], False: []}
    for trial in summary(tmp_path):
        distance = abs(trial["parameters"]["beta"] - 2)
        distances[trial["number"] in pruned].append(distance)
    assert statistics.median(distances[True]) > statistics.median(distances[False])
    for number, epochs in ends.items():
        assert (2 < epochs < 6) if number in pruned else epochs == 6


def test_a_trial_that_falls_behind_in_its_last_epoch_is_complete(tmp_path, monkeypatch):
    def late(recipe_name, recipe, config, out, *, callbacks):
        """Five trials improve in the last epoch, the next one does not."""
        best = 2 if int(out[-5:]) < 5 else 3  # whose bound is the best
        for epoch in range(config.epochs):
            flat = config.model_copy(update={"epochs": epoch + 1, "beta": 3.0})
            if epoch + 1 == config.epochs:
                flat = flat.model_copy(update={"beta": float(best)})
            fake_train(recipe_name, recipe, flat, out, callbacks=callbacks)

    monkeypatch.setattr(run_trial, "train", late)
    assert run_tune(tmp_path, count=6) == 0
    assert states(tmp_path) == ["complete"] * 6


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunError("loss is nan in epoch 2."), "loss is nan in epoch 2."),
        (MemoryError(), "out of memory"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM\nat"), "OOM"),
        (caused_by(tf.errors.ResourceExhaustedError(None, None, "OOM")), "wrapped"),
        (caused_by(ValueError("no such class")), "wrapped"),
    ],
)
def test_failed_trial_does_not_stop_the_study(
    error, reason, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(run_trial, "train", failing(error, number=1))
    assert run_tune(tmp_path) == 0
    assert states(tmp_path) == ["complete", "fail", "complete"]
    assert summary(tmp_path)[1]["reason"] == reason
    assert f"failed: {reason}" in capsys.readouterr().out


def test_study_whose_trials_all_fail_reports_the_first_reason(
    tmp_path, monkeypatch, capsys
):
    def train(*_, **__):
        raise RunError("loss is nan")

    monkeypatch.setattr(run_trial, "train", train)
    assert run_tune(tmp_path, count=2) == 1
    assert "all trials failed, the first: loss is nan" in capsys.readouterr().err


def test_unknown_metric_stops_the_study_and_lists_the_known_ones(tmp_path, capsys):
    assert run_tune(tmp_path, "--monitor", "val_kl_bond") == 2
    error = capsys.readouterr().err
    assert "no epoch has 'val_kl_bond'. Did you mean 'val_kl_bound'?" in error


def test_runs_have_the_monitor_of_the_study(tmp_path):
    assert run_tune(tmp_path, "--monitor", "loss", count=2) == 0
    for trial in summary(tmp_path):
        run = RunFolder(tmp_path / trial["run"])
        config = recipe_of_settings(run.read_settings()).config
        assert config.monitor == "loss"
        history = json.loads((tmp_path / trial["run"] / "history.json").read_text())
        assert trial["value"] == min(history["loss"])


def test_wrong_settings_are_reported_without_importing_tensorflow(tmp_path):
    code = (
        "import sys, trainers.tune\n"
        "trainers.tune.main(['polydigits', '--out', 'x', '--space', 'beta=3:1'])\n"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "False False"
    assert "--space beta" in result.stderr
