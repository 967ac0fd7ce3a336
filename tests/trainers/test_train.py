"""`mopoe-train`: what it writes, how it resumes, what it refuses."""

import csv
import json
import shutil

import keras
import pytest

from tests.trainers.tiny_training import RECIPE, STEPS
from trainers import train
from trainers.errors import RunError
from trainers.recipes.registry import RECIPES, get_recipe
from trainers.runs.run_folder import RunFolder


@pytest.fixture(scope="module", autouse=True)
def tiny_recipe():
    """Registers the recipe of `tiny_training`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "tiny", RECIPE)
        yield


def run_train(out, *arguments):
    return train.main(["tiny", "--out", str(out), "--set", "seed=0", *arguments])


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run_train(out, "schedule=constant", "--epochs", "2") == 0
    return out


@pytest.mark.integration
def test_run_folder_holds_all_files(two_epochs):
    config = json.loads((two_epochs / "config.json").read_text())
    assert config["recipe"] == "tiny"
    assert config["schedule"] == "constant"
    history = json.loads((two_epochs / "history.json").read_text())
    names = {"loss", "kl_bound", "beta", "a_log_likelihood"}
    names |= {f"val_{name}" for name in names} | {"learning_rate", "val_elbo"}
    assert names == set(history)
    text = (two_epochs / "history.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert all(len(values) == 2 for values in history.values())
    assert list((two_epochs / "logs").rglob("events.out.tfevents.*"))
    model = keras.saving.load_model(two_epochs / "model.keras")
    assert int(model.optimizer.iterations) == 2 * STEPS
    assert (two_epochs / "best.keras").exists()


@pytest.mark.integration
def test_complete_run_is_unchanged(two_epochs, capsys):
    before = (two_epochs / "model.keras").stat().st_mtime_ns
    assert run_train(two_epochs, "schedule=constant", "--epochs", "2") == 0
    assert "all done" in capsys.readouterr().out
    assert (two_epochs / "history.json").exists()
    assert len(json.loads((two_epochs / "history.json").read_text())["loss"]) == 2
    assert (two_epochs / "model.keras").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["polydigit"], "unknown recipe 'polydigit'. Did you mean 'polydigits'?"),
        (["polydigits", "--epochs", "0"], "epochs: Input should be greater than or"),
        (["polydigits", "--epochs", "many"], "epochs: Input should be a valid integer"),
        (
            ["polydigits", "--set", "latent_dim=0"],
            "latent_dim: Input should be greater",
        ),
        (["polydigits", "--set", "laten_dim=8"], "Did you mean 'latent_dim'?"),
        (["polydigits", "--set", "beta"], "--set expects key=value. Received: 'beta'"),
        (["polydigits", "--set", "beta=nan"], "beta: "),
        (["polydigits", "--set", "beta=1", "beta=2"], "--set gives 'beta' twice"),
        (["polydigits", "--epochs", "2", "--set", "epochs=3"], "Give it once."),
        (
            ["polydigits", "--set", "schedule=linea"],
            "Did you mean 'linear'?",
        ),
    ],
)
def test_wrong_usage_is_one_line_with_code_2_and_writes_nothing(
    arguments, message, tmp_path, capsys
):
    assert train.main([*arguments, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_missing_arguments_are_one_line_with_code_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main([])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.integration
def test_folder_of_another_configuration_is_refused_by_field(two_epochs, capsys):
    before = (two_epochs / "config.json").read_text()
    assert run_train(two_epochs, "schedule=constant", "beta=7") == 2
    error = capsys.readouterr().err
    assert "not 7.0" in error
    assert error.count("\n") == 1
    assert (two_epochs / "config.json").read_text() == before


def test_folder_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_train(tmp_path / "file" / "run") == 2
    error = capsys.readouterr().err
    assert "--out" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_folder_with_an_unreadable_configuration_is_refused(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    assert run_train(tmp_path) == 2
    assert "config.json" in capsys.readouterr().err


def test_empty_folder_name_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_train("") == 2
    assert "--out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_fewer_epochs_than_trained_change_nothing(two_epochs):
    before = (two_epochs / "config.json").read_text()
    assert run_train(two_epochs, "schedule=constant", "--epochs", "1") == 0
    assert (two_epochs / "config.json").read_text() == before


@pytest.mark.integration
def test_damaged_model_is_restored_from_its_checkpoint(two_epochs, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(two_epochs, out)
    (out / "model.keras").write_bytes(b"PK")
    with pytest.raises(RunError, match="damaged"):
        RunFolder(out).load_model()
    assert run_train(out, "schedule=constant", "--epochs", "2") == 0
    assert int(RunFolder(out).load_model().optimizer.iterations) == 2 * STEPS


def test_run_without_a_checkpoint_accepts_other_settings(tmp_path):
    out = tmp_path / "run"
    recipe = get_recipe("polydigits")
    RunFolder(out).prepare("polydigits", recipe.config_class(beta=1.0))
    RunFolder(out).prepare("polydigits", recipe.config_class(beta=2.0))
    assert json.loads((out / "config.json").read_text())["beta"] == 2.0
