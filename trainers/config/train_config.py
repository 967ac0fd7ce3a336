"""The configuration of a training run: validated, immutable, written to disk."""

import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import pydantic

from trainers.errors import UsageError, one_of

Count = Annotated[int, pydantic.Field(ge=1)]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, pydantic.Field(min_length=1)]
#: A fraction between 0 and 1, both excluded.
Fraction = Annotated[float, pydantic.Field(gt=0, lt=1)]

#: The schedules, and which of the settings that only some take each of them takes.
#: `trainers.fitting.optimizer.make_schedule` builds them.
SCHEDULES = {
    "constant": {"learning_rate_warmup"},
    "cosine": {"learning_rate_warmup", "learning_rate_final_share"},
    "exponential": {"learning_rate_final_share"},
    "linear": {"learning_rate_final_share"},
    "piecewise": {"learning_rate_drops"},
}
#: Texts that stand for None where a setting may be None.
NONE = ("none", "null", "~", "")


class SettingError(UsageError):
    """An error in one setting, whose name is `field`."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


class TrainConfig(pydantic.BaseModel):
    """Settings that every recipe has; recipes add fields and give defaults.

    To add a setting, add a field with a text below it, which is its help in
    `mopoe-train RECIPE --print-config`. If a resumed run may change it, list it in
    `trainers.runs.run_settings.MAY_CHANGE`.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    epochs: Count
    """Number of epochs in all, including those before a resumption."""
    batch_size: Count
    """Number of rows in a step."""
    learning_rate: Positive
    """Learning rate of Adam; the peak of the schedule."""
    schedule: str = "cosine"
    """Schedule of the learning rate over all steps: constant; cosine, linear and
    exponential fall in that shape to the end; piecewise falls to a tenth at each
    drop."""
    learning_rate_warmup: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Fraction of all steps over which the learning rate rises linearly from 0; for
    constant and cosine."""
    learning_rate_final_share: Fraction | None = None
    """Fraction of the learning rate that is left at the end; none: 0, or 0.01 with
    exponential."""
    learning_rate_drops: tuple[Fraction, ...] | None = None
    """Fractions of all steps after which the learning rate drops, with piecewise; none:
    0.5,0.75."""
    clip_norm: Positive | None = None
    """Maximum norm of all gradients together; none: no clipping."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Precision of the networks: float32, mixed_float16 (with loss scaling) or
    mixed_bfloat16."""
    execution: Literal["auto", "graph", "xla", "eager"] = "auto"
    """Execution of a step: graph, xla, eager (for debugging); auto: xla on one device
    for trainings of 1000 steps or more."""
    strategy: Literal["one_device", "mirrored", "multi_worker", "tpu"] = "one_device"
    """Distribution strategy: one_device, mirrored (all GPUs of this host, or `devices`
    logical CPUs), multi_worker (the hosts in TF_CONFIG) or tpu."""
    devices: Count | None = None
    """Number of devices of strategy mirrored; none: all GPUs."""
    tpu: str = ""
    """Name or address of the TPU of strategy tpu; empty: the one of this host."""
    wait_minutes: Positive = 10.0
    """Minutes that a worker of strategy multi_worker waits for the others to start."""
    threads: Count | None = None
    """Number of TensorFlow's threads within an operation, and between operations; none:
    the number of cores."""
    checkpoint_steps: Count | None = None
    """Steps between checkpoints within an epoch; none: no limit by steps."""
    checkpoint_minutes: Positive | None = 10.0
    """Minutes between checkpoints within an epoch; none: no limit by time. Every epoch
    ends with a checkpoint."""
    monitor: Name = "val_elbo"
    """Metric that selects the best epoch, which is kept as best.keras, and that stops
    training early. val_elbo is the log-likelihoods of the validation rows minus the
    divergences, all with weight 1."""
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    """Whether a smaller or a larger value is better; auto: smaller for losses,
    divergences and errors."""
    patience: Count | None = None
    """Epochs without improvement after which training stops; none: never."""
    tensorboard_graph: bool = False
    """Whether to write the graph of the training step for TensorBoard."""
    wandb: Name | None = None
    """Weights & Biases project to report to; none: no report."""
    mlflow: Name | None = None
    """MLflow experiment to report to; none: no report."""
    latent_dim: Count
    """Size of the latent space."""
    beta: NonNegative
    """Weight of the divergence."""
    missing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Fraction of the training data's modalities that are declared missing, completely
    at random; every row keeps at least one."""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    """Seed of weights, data and noise."""
    evaluate_every: int = pydantic.Field(default=0, ge=0)
    """Epochs between evaluations on the validation split, whose numbers and images are
    written for TensorBoard; 0: no evaluation."""

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _parse_text(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """Reads None and lists from texts; refuses booleans as numbers."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        kinds = (annotation, *get_args(annotation))
        if isinstance(value, bool) and bool not in kinds:
            raise ValueError("expected no boolean")
        if not isinstance(value, str):
            return value
        if type(None) in kinds and value.strip().lower() in NONE:
            return None
        if any(get_origin(kind) is tuple for kind in kinds):
            return value.strip("[]() ").split(",")
        return value

    @pydantic.model_validator(mode="after")
    def _check_combinations(self) -> "TrainConfig":
        """Refuses settings that would have no effect, or fail, beside others."""
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule: unknown schedule. {one_of(SCHEDULES, self.schedule)}"
            )
        drops = self.learning_rate_drops
        if drops is not None and (not drops or sorted(set(drops)) != list(drops)):
            raise ValueError(
                "learning_rate_drops: expected fractions in ascending order. "
                f"Received: {drops}."
            )
        for field in sorted(set.union(*SCHEDULES.values()) - SCHEDULES[self.schedule]):
            if getattr(self, field) != type(self).model_fields[field].default:
                takers = [name for name, takes in SCHEDULES.items() if field in takes]
                raise ValueError(
                    f"{field}: is for schedule {' or '.join(takers)}. Received: "
                    f"schedule {self.schedule}."
                )
        for field, strategy in (("devices", "mirrored"), ("tpu", "tpu")):
            if getattr(self, field) and self.strategy != strategy:
                raise ValueError(
                    f"{field}: is for strategy {strategy}. Received: strategy "
                    f"{self.strategy}."
                )
        if self.execution == "eager" and self.strategy == "tpu":
            raise ValueError("execution: a TPU can't run eagerly. Use graph.")
        if self.execution == "eager" and self.tensorboard_graph:
            raise ValueError(
                "tensorboard_graph: execution eager has no graph. Choose one of them."
            )
        return self

    @classmethod
    def help_of(cls, field: str) -> str:
        """The text below a field, here or in a parent class, in one line."""
        for parent in cls.__mro__:
            info = getattr(parent, "model_fields", {}).get(field)
            if info and info.description:
                return " ".join(info.description.split())
        return ""


ConfigT = TypeVar("ConfigT", bound=TrainConfig)


def make_config(config_class: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Validates `values`, which are texts or already of the right type.

    Raises:
      SettingError: In one line that names the field, what was expected and the value.
    """
    try:
        return config_class(**values)
    except pydantic.ValidationError as error:
        raise _setting_error(config_class, error) from None


def _setting_error(
    config_class: type[TrainConfig], error: pydantic.ValidationError
) -> SettingError:
    """The first error of a validation."""
    first = error.errors()[0]
    received = reprlib.repr(first["input"])
    message = str(first.get("ctx", {}).get("error", first["msg"]))
    if not first["loc"]:  # of several fields: the message begins with one of them
        return SettingError(message.partition(":")[0], message)
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = one_of(config_class.model_fields, field)
        return SettingError(field, f"unknown setting {field!r}. {known}")
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = get_args(config_class.model_fields[field].annotation)
        message = f"unknown choice. {one_of(choices, first['input'])}"
    return SettingError(field, f"{field}: {message.rstrip('.')}. Received: {received}.")
