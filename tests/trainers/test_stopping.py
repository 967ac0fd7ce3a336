"""What stops a training: non-finite metrics, signals, locks and early stopping."""

import json
import os
import signal
import threading

import keras
import numpy as np
import pytest

from tests.trainers.tiny_training import (
    EPOCHS,
    RECIPE,
    STEPS,
    At,
    everything,
    load_data,
    run,
    terminate,
)
from trainers.errors import RunError, Stopped, UsageError, run_command
from trainers.fitting import callbacks
from trainers.recipes.recipe import LabelledData
from trainers.runs.checkpoints import Checkpoints
from trainers.runs.run_folder import RunFolder


@pytest.mark.integration
def test_first_metric_that_is_not_finite_stops_and_is_named(tmp_path):
    def spoil(model):
        model.networks.experts["a"].trainable_variables[0].assign(
            np.full([4, 2], np.inf)
        )

    with pytest.raises(RunError) as failed:
        run(tmp_path, At(spoil, epoch=1, batch=2), checkpoint_steps=2)
    message = str(failed.value)
    for name in ("loss", "kl_bound", "a_log_likelihood"):
        assert f"{name} is " in message
    assert "beta" not in message
    assert "at step 8 (epoch 2, step 3 of 5)" in message
    assert "step-00000006 is kept" in message
    assert "smaller learning_rate or clip_norm" in message


@pytest.mark.integration
def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    def spoil(model):  # what the step's update adds, once its numbers are formed
        model.optimizer.variables[2].assign(np.full([4, 2], np.nan))

    with pytest.raises(RunError, match="not finite after step 4.*step-00000002 is"):
        run(tmp_path, At(spoil, batch=3), checkpoint_steps=2)


@pytest.mark.integration
def test_validation_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    def huge(config, split):
        data = load_data(config, split)
        if split == "validation":
            data.modalities["a"][0] = 1e30  # whose square overflows
        return data

    with pytest.raises(RunError, match="val_loss is nan.* after epoch 1.*000003 is ke"):
        run(tmp_path, recipe=RECIPE._replace(load_data=huge), checkpoint_steps=3)


def test_data_that_the_model_refuses_is_one_line(tmp_path):
    def spoiled(config, split):
        data = load_data(config, split)
        data.modalities["a"][7, 1] = np.nan
        return data

    with pytest.raises(RunError) as failed:
        run(tmp_path, recipe=RECIPE._replace(load_data=spoiled))
    assert str(failed.value).startswith("Modality 'a' must hold finite numbers")
    assert "\n" not in str(failed.value)


def test_signal_while_data_are_loaded_stops_with_code_75(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def interrupted(config, split):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("reached")

    recipe = RECIPE._replace(load_data=interrupted)
    assert run_command("train", lambda: run(tmp_path, recipe=recipe)) == 75
    message = capsys.readouterr().err.strip()
    assert message == (
        "train: stopped by SIGINT before training began; run the same command again to "
        "resume."
    )
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.integration
def test_a_second_sigint_kills(tmp_path):
    found = []

    def interrupt(model):
        os.kill(os.getpid(), signal.SIGINT)
        found.append(signal.getsignal(signal.SIGINT))

    with pytest.raises(Stopped, match="SIGINT after step 1 "):
        run(tmp_path, At(interrupt))
    assert found == [signal.SIG_DFL]


@pytest.mark.integration
def test_a_signal_after_the_last_step_leaves_a_complete_run(whole, tmp_path):
    class Late(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            terminate()

    with pytest.raises(Stopped, match="when training was complete"):
        run(tmp_path, Late())
    assert everything(tmp_path) == everything(whole)


@pytest.mark.integration
def test_training_in_another_thread_sets_no_handlers(tmp_path):
    thread = threading.Thread(target=run, args=[tmp_path], kwargs={"epochs": 1})
    thread.start()
    thread.join()
    assert RunFolder(tmp_path).model_file.exists()


@pytest.mark.integration
def test_folder_is_locked_by_one_process(whole):
    with (
        RunFolder(whole).exclusive(),
        pytest.raises(UsageError, match="another process is training in"),
    ):
        run(whole)
    run(whole)


@pytest.mark.integration
def test_data_of_another_length_are_refused(whole):
    def longer(config, split):
        data = load_data(config, split)
        return LabelledData({"a": np.repeat(data.modalities["a"], 2, 0)}, data.labels)

    with pytest.raises(UsageError, match="5 steps an epoch, but its data now make 10"):
        run(whole, recipe=RECIPE._replace(load_data=longer), epochs=4)


@pytest.fixture
def evaluated(monkeypatch):
    """Numbers of the evaluations by epoch; functions are called instead."""
    numbers = [1.0, 3.0, 2.0, 2.5, 9.0]

    def evaluate(self, epoch):
        value = numbers[epoch]
        return {"evaluation/joint_coherence": value() if callable(value) else value}

    monkeypatch.setattr(
        callbacks.TensorBoardEvaluation, "_make_context", lambda s: None
    )
    monkeypatch.setattr(callbacks.TensorBoardEvaluation, "_evaluate", evaluate)
    return numbers


COHERENCE = {"monitor": "evaluation/joint_coherence", "evaluate_every": 1, "epochs": 5}


@pytest.mark.integration
def test_early_stopping_and_best_model_survive_interruptions(
    evaluated, tmp_path, capsys
):
    early = {**COHERENCE, "patience": 2}
    with pytest.raises(Stopped):
        run(tmp_path, At(terminate, epoch=2, batch=1), **early)
    run(tmp_path, **early)
    why = "in 2 epochs no evaluation/joint_coherence was better than 3, of epoch 2"
    assert why in capsys.readouterr().out
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["evaluation/joint_coherence"] == evaluated[:4]
    best = keras.saving.load_model(RunFolder(tmp_path).best_file)
    assert int(best.optimizer.iterations) == 2 * STEPS
    run(tmp_path, **early)
    assert f"4 of 5 epochs, and stopped early after epoch 4: {why}" in (
        capsys.readouterr().out
    )
    run(tmp_path, **COHERENCE)  # with more patience
    best = keras.saving.load_model(RunFolder(tmp_path).best_file)
    assert int(best.optimizer.iterations) == 5 * STEPS


@pytest.mark.integration
def test_failed_evaluation_loses_no_step(evaluated, tmp_path, whole):
    def fail():
        raise RunError("no memory")

    evaluated[0] = fail
    run_it = {"evaluate_every": 1}
    with pytest.raises(RunError, match="no memory"):
        run(tmp_path, **run_it)
    found = Checkpoints(tmp_path / "checkpoints").find()
    assert found.state[:3] == (0, STEPS, STEPS)
    assert not (tmp_path / "history.json").exists()
    evaluated[0] = terminate_now
    with pytest.raises(Stopped, match="SIGTERM while epoch 1 was evaluated"):
        run(tmp_path, **run_it)
    evaluated[0] = float("nan")
    run(tmp_path, **run_it)
    history = everything(tmp_path)[2]
    assert history.pop("evaluation/joint_coherence") == [None, 3.0, 2.0]
    assert history == everything(whole)[2]
    assert everything(tmp_path)[0] == everything(whole)[0]


def terminate_now():
    terminate()
    raise AssertionError("reached")


@pytest.mark.integration
def test_epoch_without_evaluation_is_none_in_the_history(evaluated, tmp_path):
    run(tmp_path, evaluate_every=2, epochs=3)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["evaluation/joint_coherence"] == [None, 3.0, None]
    row = (tmp_path / "history.csv").read_text().splitlines()[1].split(",")
    assert row[-1] == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monitor": "val_los"}, "no epoch has 'val_los'. Did you mean 'val_loss'?"),
        ({"monitor": "evaluation/x"}, "'evaluation/x', with evaluate_every=0"),
        (
            {"monitor": "evaluation/x", "evaluate_every": EPOCHS + 1},
            "'evaluation/x', with evaluate_every=4",
        ),
    ],
)
def test_an_unknown_monitor_is_refused_before_a_step(settings, message, tmp_path):
    with pytest.raises(UsageError) as refused:
        run(tmp_path, **settings)
    assert message in str(refused.value)
    assert not Checkpoints(tmp_path / "checkpoints").paths()


@pytest.mark.integration
def test_unknown_evaluation_metric_is_refused_before_the_epoch_is_lost(
    evaluated, tmp_path
):
    wrong = {**COHERENCE, "monitor": "evaluation/joint_coherenc"}
    with pytest.raises(UsageError, match="Did you mean 'evaluation/joint_coherence'"):
        run(tmp_path, **wrong)
    assert Checkpoints(tmp_path / "checkpoints").find().state[:2] == (0, STEPS)
