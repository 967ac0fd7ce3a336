"""Loggers of a training: TensorBoard, Weights & Biases, MLflow."""

import importlib.util
import sys
import uuid
from typing import TYPE_CHECKING

import pydantic

from trainers.config.train_config import TrainConfig
from trainers.errors import UsageError
from trainers.runs.atomic_files import write_json
from trainers.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import keras

#: Settings that name a project or experiment, and the packages they need.
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}
#: File in the run folder: setting, then its value, to the id of the tracker's run.
IDS_FILE = "trackers.json"


def check_packages(config: TrainConfig) -> None:
    """Checks that packages which the configuration needs are installed.

    Raises:
      UsageError: If one is missing. Nothing is imported.
    """
    for setting, package in PACKAGES.items():
        if not getattr(config, setting):
            continue
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:  # a mere folder of that name
            raise UsageError(
                f"{setting}: needs the package {package}: "
                f"pip install 'tf-mopoe[{setting}]'."
            )


def make_loggers(
    config: TrainConfig, run: RunFolder
) -> list["keras.callbacks.Callback"]:
    """Makes the callbacks that report, for the process that writes the run folder.

    A resumed run reports to the same tracker's run; its id is in trackers.json. Call
    `finish_loggers` at the end.

    Raises:
      UsageError: If a package is missing, or a service can't be used.
    """
    import keras

    check_packages(config)
    callbacks: list[keras.callbacks.Callback] = [
        keras.callbacks.TensorBoard(run.logs, write_graph=False)
    ]
    if config.tensorboard_graph:
        callbacks.append(_graph_logger(run))
    if config.wandb:
        callbacks.append(_wandb_logger(config, run))
    if config.mlflow:
        callbacks.append(_mlflow_logger(config, run))
    return callbacks


def finish_loggers(config: TrainConfig, *, completed: bool) -> None:
    """Sends what is left and the outcome; failures are printed only.

    Args:
      config: Configuration that `make_loggers` was called with.
      completed: Whether training reached its end.
    """
    if config.wandb:
        import wandb

        wandb.finish(exit_code=0 if completed else 1)
    if config.mlflow:
        import mlflow

        try:
            mlflow.end_run("FINISHED" if completed else "KILLED")
        except mlflow.MlflowException as error:  # no reason for a training to fail
            print(f"mlflow: {' '.join(str(error).split())}", file=sys.stderr)


def _graph_logger(run: RunFolder) -> "keras.callbacks.Callback":
    """Writes the graph of the first step; Keras 3's TensorBoard callback does not."""
    import keras
    import tensorflow as tf

    class GraphLogger(keras.callbacks.Callback):
        writer = tf.summary.create_file_writer(str(run.logs / "train"))
        written = False

        def on_train_batch_begin(self, batch, logs=None):
            if not self.written:
                tf.summary.trace_on(graph=True)

        def on_train_batch_end(self, batch, logs=None):
            if not self.written:
                with self.writer.as_default():
                    tf.summary.trace_export("train_step", step=0)
                self.writer.close()
                self.written = True

    return GraphLogger()


def _wandb_logger(config: TrainConfig, run: RunFolder) -> "keras.callbacks.Callback":
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    ids = _read_ids(run)
    run_id = ids["wandb"].setdefault(str(config.wandb), uuid.uuid4().hex[:12])
    try:
        wandb.init(
            project=config.wandb,
            name=run.path.name,
            dir=run.path,
            id=run_id,
            resume="allow",
            reinit="finish_previous",
            config=config.model_dump(mode="json"),
        )
    except wandb.Error as error:
        hint = "WANDB_MODE=offline needs no service"
        raise _service_error("wandb", error, hint) from error
    write_json(run.path / IDS_FILE, ids)
    return WandbMetricsLogger()


def _mlflow_logger(config: TrainConfig, run: RunFolder) -> "keras.callbacks.Callback":
    import mlflow
    from mlflow.keras import MlflowCallback

    ids = _read_ids(run)
    run_id = ids["mlflow"].get(str(config.mlflow))
    try:
        mlflow.end_run("KILLED")  # of an earlier training in this process, if any
        mlflow.set_experiment(config.mlflow)
        active = mlflow.start_run(run_id, run_name=None if run_id else run.path.name)
        if run_id is None:
            mlflow.log_params(config.model_dump(mode="json"))
    except (mlflow.MlflowException, ImportError) as error:
        hint = (
            f"MLFLOW_TRACKING_URI names the server; without {IDS_FILE} a new run begins"
        )
        raise _service_error("mlflow", error, hint) from error
    ids["mlflow"][str(config.mlflow)] = active.info.run_id
    write_json(run.path / IDS_FILE, ids)

    class ResumedCallback(MlflowCallback):
        def on_train_begin(self, logs=None):
            """Logs no parameters: those of a run can't change."""

    return ResumedCallback() if run_id else MlflowCallback()


def _read_ids(run: RunFolder) -> dict[str, dict[str, str]]:
    """Raises a UsageError if the file is damaged."""
    path = run.path / IDS_FILE
    ids: dict[str, dict[str, str]] = {}
    if path.exists():
        kind = pydantic.TypeAdapter(dict[str, dict[str, str]])
        try:
            ids = kind.validate_json(path.read_bytes())
        except pydantic.ValidationError:
            raise UsageError(
                f"{path} is damaged. Delete it: training then reports to new runs."
            ) from None
    return {setting: ids.get(setting, {}) for setting in PACKAGES}


def _service_error(setting: str, error: Exception, hint: str) -> UsageError:
    return UsageError(f"{setting}: {' '.join(str(error).split())} ({hint})")
