"""TensorBoard, Weights & Biases and MLflow: what they get, and what is refused."""

import importlib.util
import io
import json
from importlib.machinery import ModuleSpec

import keras
import pytest
import tensorflow as tf

from tests.tiny_models import tiny_batch, tiny_model
from trainers import train
from trainers.config.train_config import make_config
from trainers.errors import UsageError
from trainers.fitting import loggers
from trainers.fitting.loggers import IDS_FILE, finish_loggers, make_loggers
from trainers.fitting.optimizer import make_optimizer
from trainers.recipes.registry import get_recipe
from trainers.runs.run_folder import RunFolder

STEPS = 2
METRICS = {"loss", "kl_bound", "beta", "a_log_likelihood", "b_log_likelihood"}


def config(**values):
    return make_config(get_recipe("polydigits").config_class, values)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first").mkdir()
    return RunFolder(tmp_path / "first")


@pytest.fixture(scope="module")
def untrained():
    """A compiled model."""
    model = tiny_model()
    model.compile(make_optimizer(config(learning_rate=0.01, schedule="linear"), 100))
    return model


def fit(model, settings, run, epochs, *, first=0):
    """Trains with the loggers of the settings, and leaves them open."""
    callbacks = make_loggers(settings, run)
    rows = tf.data.Dataset.from_tensors(tiny_batch()).repeat(STEPS)
    model.fit(
        rows,
        validation_data=rows,
        epochs=epochs,
        initial_epoch=first,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


def events(folder):
    """Yields the events of a folder."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            yield tf.compat.v1.Event.FromString(record.numpy())


@pytest.fixture(scope="module")
def tensorboard(untrained, tmp_path_factory):
    """Logs of the model's first two epochs, with the graph."""
    run = RunFolder(tmp_path_factory.mktemp("tensorboard"))
    fit(untrained, config(tensorboard_graph=True), run, epochs=2)
    return run.logs


@pytest.fixture(scope="module")
def model(untrained, tensorboard):
    """The model after its first epochs: its step is traced only once."""
    return untrained


@pytest.mark.integration
def test_tensorboard_gets_the_metrics_of_training_and_validation(tensorboard):
    for split, more in (("train", {"epoch_learning_rate"}), ("validation", set())):
        steps = {}
        for event in events(tensorboard / split):
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
        names = {tag for tag in steps if tag.startswith("epoch_")}
        assert {f"epoch_{name}" for name in METRICS} | more == names
        assert all(steps[name] == [0, 1] for name in names)


@pytest.mark.integration
def test_tensorboard_gets_the_graph_of_the_step_once(tensorboard):
    graphs = [
        value
        for event in events(tensorboard / "train")
        for value in event.summary.value
        if value.tag == "train_step"
    ]
    assert len(graphs) == 1
    assert graphs[0].metadata.plugin_data.plugin_name == "graph_run_metadata_graph"
    metadata = tf.compat.v1.RunMetadata.FromString(graphs[0].tensor.string_val[0])
    graph = max((g.pre_optimization_graph for g in metadata.function_graphs), key=size)
    nodes = [node for f in graph.library.function for node in f.node_def]
    text = "\n".join(node.name for node in [*graph.node, *nodes])
    for part in ("a_expert", "mixture_of_experts", "gradient_tape", "adam"):
        assert part in text


def size(graph):
    """Number of nodes of a graph, including its functions."""
    return len(graph.node) + sum(len(f.node_def) for f in graph.library.function)


@pytest.mark.parametrize("setting", ["wandb", "mlflow"])
@pytest.mark.parametrize("spec", [None, ModuleSpec("a folder", None)])
def test_missing_package_is_refused_before_anything_is_written(
    setting, spec, tmp_path, monkeypatch, capsys
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        loggers.importlib.util,
        "find_spec",
        lambda name: spec if name == setting else find_spec(name),
    )
    monkeypatch.setattr(train, "train", lambda *args: pytest.fail("trains"))
    out = tmp_path / "run"
    arguments = ["polydigits", "--out", str(out), "--set", f"{setting}=project"]
    assert train.main(arguments) == 2
    expected = f"{setting}: needs the package {setting}: pip install 'tf-mopoe["
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not out.exists()
    with pytest.raises(UsageError, match=f"{setting}: needs the package"):
        make_loggers(config(**{setting: "project"}), RunFolder(tmp_path))


def test_tensorboard_is_the_only_default_logger(run, monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    (only,) = make_loggers(config(), run)
    assert isinstance(only, keras.callbacks.TensorBoard)
    finish_loggers(config(), completed=True)


@pytest.mark.parametrize("content", ["{", "[1]", '{"mlflow": 1}'])
def test_damaged_file_of_ids_is_refused(content, run):
    pytest.importorskip("mlflow", reason="an optional extra")
    (run.path / IDS_FILE).write_text(content)
    with pytest.raises(UsageError, match="is damaged"):
        make_loggers(config(mlflow="first"), run)


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """The package, without a login, a terminal or a network."""
    wandb = pytest.importorskip("wandb", reason="an optional extra")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    yield wandb
    wandb.teardown()


@pytest.mark.integration
def test_wandb_gets_metrics_and_settings_in_one_run_after_resumption(
    model, run, wandb, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = config(wandb="project", beta=3.5)
    ids = []
    for epoch in (0, 1):
        fit(model, settings, run, epochs=epoch + 1, first=epoch)
        ids.append(wandb.run.id)
        assert wandb.run.project == "project"
        assert wandb.run.name == "first"
        assert wandb.run.config["beta"] == 3.5
        logged = dict(wandb.run.summary)
        assert {f"epoch/{x}" for x in METRICS} <= set(logged)
        assert {f"epoch/val_{x}" for x in METRICS} <= set(logged)
        assert logged["epoch/epoch"] == epoch
        rate = 0.01 * (1 - int(model.optimizer.iterations) / 100)
        assert logged["epoch/learning_rate"] == pytest.approx(rate)
        finish_loggers(settings, completed=epoch == 1)
        assert wandb.run is None
    assert ids[0] == ids[1]
    assert json.loads((run.path / IDS_FILE).read_text())["wandb"] == {"project": ids[0]}
    assert len(list((run.path / "wandb").glob(f"offline-run-*-{ids[0]}"))) == 2
    make_loggers(config(wandb="other"), run)
    assert wandb.run.id != ids[0]


@pytest.mark.integration
def test_wandb_without_a_login_is_refused_without_a_prompt(run, wandb):
    with pytest.raises(UsageError, match=r"wandb: No API key.*WANDB_MODE=offline"):
        make_loggers(config(wandb="project"), run)
    assert not (run.path / IDS_FILE).exists()


@pytest.fixture
def mlflow(monkeypatch, tmp_path):
    """The package with a store of files, which is created faster than a database."""
    mlflow = pytest.importorskip("mlflow", reason="an optional extra")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/store")
    yield mlflow
    mlflow.end_run()


@pytest.mark.integration
def test_mlflow_gets_metrics_and_settings_in_one_run_after_resumption(
    model, run, mlflow, monkeypatch, capfd
):
    for epoch in (0, 1):
        # A longer training has other parameters: they stay those of the first one.
        settings = config(mlflow="experiment", epochs=epoch + 1)
        monkeypatch.setattr(model.optimizer, "get_config", lambda n=epoch: {"steps": n})
        fit(model, settings, run, epochs=epoch + 1, first=epoch)
        finish_loggers(settings, completed=epoch == 1)
        assert mlflow.active_run() is None
        (run_id,) = json.loads((run.path / IDS_FILE).read_text())["mlflow"].values()
        logged = mlflow.get_run(run_id)
        assert logged.info.status == ("FINISHED" if epoch else "KILLED")
    assert "WARNING" not in capfd.readouterr().err
    assert logged.info.run_name == "first"
    assert logged.data.params["epochs"] == "1"
    assert logged.data.params["latent_dim"] == "32"
    assert logged.data.params["optimizer_steps"] == "0"
    assert METRICS | {f"val_{x}" for x in METRICS} <= set(logged.data.metrics)
    client = mlflow.MlflowClient()
    history = client.get_metric_history(run_id, "val_loss")
    assert [entry.step for entry in history] == [0, 1]
    assert len(client.search_runs([logged.info.experiment_id])) == 1


@pytest.mark.integration
def test_unknown_mlflow_run_is_refused(run, mlflow):
    (run.path / IDS_FILE).write_text(json.dumps({"mlflow": {"experiment": "0" * 32}}))
    with pytest.raises(UsageError, match="mlflow: .*not found.*without trackers.json"):
        make_loggers(config(mlflow="experiment"), run)


@pytest.mark.integration
def test_service_that_fails_at_the_end_is_only_reported(
    run, mlflow, monkeypatch, capsys
):
    def end_run(status):
        raise mlflow.MlflowException("no\nconnection")

    monkeypatch.setattr(mlflow, "end_run", end_run)
    finish_loggers(config(mlflow="experiment"), completed=True)
    monkeypatch.undo()
    assert capsys.readouterr().err == "mlflow: no connection\n"


@pytest.mark.integration
def test_unfinished_mlflow_run_of_this_process_is_ended(run, mlflow, tmp_path):
    make_loggers(config(mlflow="experiment"), run)
    first = mlflow.active_run().info.run_id
    (tmp_path / "second").mkdir()
    make_loggers(config(mlflow="experiment"), RunFolder(tmp_path / "second"))
    assert mlflow.active_run().info.run_id != first
    assert mlflow.get_run(first).info.status == "KILLED"
