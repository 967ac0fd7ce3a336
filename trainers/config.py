"""The configuration of a training run: validated, immutable, written to disk."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import pydantic

from trainers.errors import UsageError, one_of


class TrainConfig(pydantic.BaseModel):
    """What every recipe has; recipes add fields and give defaults.

    Attributes:
      epochs: Number of epochs in all, those before a resumption included.
      batch_size: Rows of a step.
      learning_rate: Adam's, at the start.
      schedule: `"cosine"`: the learning rate falls to 0 over all steps; `"constant"`.
      clip_norm: Largest norm of all gradients together; None: not clipped.
      precision: `"float32"`, `"mixed_float16"` (with loss scaling) or
        `"mixed_bfloat16"`, the policy of the networks.
      execution: `"graph"`, `"xla"`, `"eager"`, or `"auto"`: what is fastest on the
        hardware at hand.
      strategy: `"one_device"`, `"mirrored"` (all GPUs of this host, or `devices`
        logical CPUs), `"multi_worker"` (hosts that `TF_CONFIG` names) or `"tpu"`.
      devices: Number of devices of `"mirrored"`; None: all GPUs.
      tpu: Name or address of the TPU.
      threads: Of TensorFlow, within an operation and between operations each; None: as
        many as there are cores.
      checkpoint_steps: Steps between checkpoints within an epoch; None: none by steps.
      checkpoint_minutes: Minutes between checkpoints within an epoch; None: none by
        time. Every epoch ends with one.
      monitor: The metric by which the best epoch, kept as `best.keras`, and early
        stopping judge.
      monitor_mode: Whether the smaller or the larger is better; `"auto"`: smaller for
        losses, divergences and errors.
      patience: Epochs without a better `monitor` after which training stops; None:
        never.
      tensorboard_graph: Whether TensorBoard gets the graph of the training step.
      wandb: Weights & Biases project to report to; None: none.
      mlflow: MLflow experiment to report to; None: none.
      latent_dim: D.
      beta: Weight of the divergence.
      missing: Share of the training views that are declared missing, completely at
        random; every row keeps one.
      seed: Of weights, data and noise.
      evaluate_every: Epochs between evaluations on the validation split, whose numbers
        and images TensorBoard gets; 0: none.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    epochs: int = pydantic.Field(ge=1)
    batch_size: int = pydantic.Field(ge=1)
    learning_rate: float = pydantic.Field(gt=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "cosine"
    clip_norm: float | None = pydantic.Field(default=None, gt=0, allow_inf_nan=False)
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    execution: Literal["auto", "graph", "xla", "eager"] = "auto"
    strategy: Literal["one_device", "mirrored", "multi_worker", "tpu"] = "one_device"
    devices: int | None = pydantic.Field(default=None, ge=1)
    tpu: str = ""
    threads: int | None = pydantic.Field(default=None, ge=1)
    checkpoint_steps: int | None = pydantic.Field(default=None, ge=1)
    checkpoint_minutes: float | None = pydantic.Field(
        default=10.0, gt=0, allow_inf_nan=False
    )
    monitor: str = "val_loss"
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    patience: int | None = pydantic.Field(default=None, ge=1)
    tensorboard_graph: bool = False
    wandb: str | None = None
    mlflow: str | None = None
    latent_dim: int = pydantic.Field(ge=1)
    beta: float = pydantic.Field(ge=0, allow_inf_nan=False)
    missing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    evaluate_every: int = pydantic.Field(default=0, ge=0)


ConfigT = TypeVar("ConfigT", bound=TrainConfig)


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Splits `key=value` texts.

    Raises:
      UsageError: If one has no `=` or a key comes twice.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"--set expects key=value. Received: {assignment!r}.")
        if key in values:
            raise UsageError(f"--set gives {key!r} twice.")
        values[key] = value
    return values


def make_config(config_class: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """Validates `values`, texts or already of the right type.

    Raises:
      UsageError: In one line that names the field, what was expected and what came.
    """
    try:
        return config_class(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = one_of(config_class.model_fields, field)
            raise UsageError(f"unknown setting {field!r}. {known}") from None
        raise UsageError(
            f"{field}: {first['msg']}. Received: {first['input']!r}."
        ) from None
