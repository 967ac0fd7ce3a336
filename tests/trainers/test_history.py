"""The history of a run: best epoch, early stopping, validation ELBO."""

import math

import pytest

from trainers.config.train_config import TrainConfig
from trainers.runs.history import Monitor, validation_elbo, with_epoch, write_csv


def monitor(metric, mode="auto", patience=None):
    settings = {"epochs": 1, "batch_size": 1, "learning_rate": 1, "latent_dim": 1}
    settings |= {"beta": 1, "monitor": metric, "monitor_mode": mode}
    return Monitor(TrainConfig(**settings, patience=patience))


@pytest.mark.parametrize(
    ("metric", "mode", "best"),
    [
        ("val_loss", "auto", 1),
        ("val_kl_bound", "auto", 1),
        ("val_m0_log_likelihood", "auto", 2),
        ("evaluation/conditional_coherence/product/by_number_given/1", "auto", 2),
        ("evaluation/linear_probe/joint/by_number_given/2", "auto", 2),
        ("val_m0_log_likelihood", "min", 1),
        ("val_loss", "max", 2),
    ],
)
def test_best_epoch_is_the_first_of_the_smallest_or_largest(metric, mode, best):
    history = {metric: [None, 1.0, 5.0, 5.0, 1.0, None]}
    assert monitor(metric, mode).best_epoch(history) == best


def test_metric_without_values_has_no_best_epoch_and_never_stops():
    for history in ({}, {"loss": [1.0]}, {"val_loss": [None, None]}):
        assert monitor("val_loss", patience=1).best_epoch(history) is None
        assert monitor("val_loss", patience=1).stop_reason(history) is None


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([3, 2, 1], False),
        ([1, 2], False),
        ([1, 2, 3], True),
        ([1, 1, 1], True),  # as good is not better
        ([1, 2, None, None], False),
        ([1, None, 2, None, 2], True),
        ([2, 3, 1, 2], False),
    ],
)
def test_training_stops_after_patience_values_without_improvement(values, stops):
    history = {"val_loss": values}
    assert bool(monitor("val_loss", patience=2).stop_reason(history)) == stops
    assert monitor("val_loss", patience=None).stop_reason(history) is None


def test_lists_of_a_history_have_equal_length(tmp_path):
    history = {"loss": [2.0]}
    for logs in ({"loss": 1.5, "late": 7}, {"late": math.nan}):
        history = with_epoch(history, logs)
    assert history == {"loss": [2.0, 1.5, None], "late": [None, 7.0, None]}
    write_csv(tmp_path / "h.csv", history)
    assert (
        tmp_path / "h.csv"
    ).read_text() == "epoch,loss,late\n1,2.0,\n2,1.5,7.0\n3,,\n"


def test_validation_elbo_has_weights_of_one():
    logs = {"val_a_log_likelihood": -7.0, "val_b_log_likelihood": 2.0}
    logs |= {"val_kl_bound": 3.0, "val_a_style_kl": 0.5, "val_beta": 4.0}
    logs |= {"val_loss": 99.0, "a_log_likelihood": 99.0, "kl_bound": 99.0}
    assert validation_elbo(logs) == -8.5
