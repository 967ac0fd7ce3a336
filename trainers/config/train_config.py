"""The configuration of a training run: validated, immutable, written to disk."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import pydantic

from trainers.errors import UsageError, one_of

Count = Annotated[int, pydantic.Field(ge=1)]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, pydantic.Field(min_length=1)]
#: Of a whole, without its ends.
Inner = Annotated[float, pydantic.Field(gt=0, lt=1)]

#: Names of schedules, and the settings of some schedules only that each of them takes.
#: `trainers.fitting.optimizer.make_schedule` builds them.
SCHEDULES = {
    "constant": {"learning_rate_warmup"},
    "cosine": {"learning_rate_warmup", "learning_rate_final_share"},
    "exponential": {"learning_rate_final_share"},
    "linear": {"learning_rate_final_share"},
    "piecewise": {"learning_rate_drops"},
}

#: How a setting that may be None says so, where it comes as a text.
NONE = ("none", "null", "~", "")


class SettingError(UsageError):
    """Of one setting, `field`."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


class TrainConfig(pydantic.BaseModel):
    """What every recipe has; recipes add fields and give defaults.

    The text below a field is its help: `mopoe-train RECIPE --print-config`.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    epochs: Count
    """Number of epochs in all, those before a resumption included."""
    batch_size: Count
    """Rows of a step."""
    learning_rate: Positive
    """Adam's, the highest one of the schedule."""
    schedule: str = "cosine"
    """Of the learning rate over all steps: constant, cosine, linear and exponential
    fall that way to the end; piecewise falls to a tenth at each drop."""
    learning_rate_warmup: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0 in a line; with
    constant and cosine."""
    learning_rate_final_share: Inner | None = None
    """Share of the learning rate that is left at the end; none: 0, or 0.01 with
    exponential."""
    learning_rate_drops: tuple[Inner, ...] | None = None
    """Shares of all steps after which the learning rate drops, with piecewise, such as
    0.5,0.75, which none stands for."""
    clip_norm: Positive | None = None
    """Largest norm of all gradients together; none: not clipped."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Of the networks: float32, mixed_float16 (with loss scaling) or mixed_bfloat16."""
    execution: Literal["auto", "graph", "xla", "eager"] = "auto"
    """Of a step: graph, xla, eager (for debugging); auto: xla on one device
    where there are 1000 steps or more."""
    strategy: Literal["one_device", "mirrored", "multi_worker", "tpu"] = "one_device"
    """one_device, mirrored (all GPUs of this host, or `devices` logical CPUs),
    multi_worker (the hosts that TF_CONFIG names) or tpu."""
    devices: Count | None = None
    """Number of devices of strategy mirrored; none: all GPUs."""
    tpu: str = ""
    """Name or address of the TPU of strategy tpu; empty: the one of this host."""
    wait_minutes: Positive = 10.0
    """Minutes that a worker of strategy multi_worker waits for the others to start."""
    threads: Count | None = None
    """TensorFlow's, within an operation and between operations each; none: as many as
    there are cores."""
    checkpoint_steps: Count | None = None
    """Steps between checkpoints within an epoch; none: none by steps."""
    checkpoint_minutes: Positive | None = 10.0
    """Minutes between checkpoints within an epoch; none: none by time. Every epoch ends
    with one."""
    monitor: Name = "val_elbo"
    """Metric that chooses the best epoch, kept as best.keras, and stops early.
    val_elbo is the log-likelihoods of the validation rows minus the divergences, all of
    weight 1."""
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    """Whether a smaller or a larger one is better; auto: smaller for losses,
    divergences and errors."""
    patience: Count | None = None
    """Epochs without a better one after which training stops; none: it doesn't."""
    tensorboard_graph: bool = False
    """Whether TensorBoard gets the graph of the training step."""
    wandb: Name | None = None
    """Weights & Biases project to report to; none: not."""
    mlflow: Name | None = None
    """MLflow experiment to report to; none: not."""
    latent_dim: Count
    """Size of the latent space."""
    beta: NotNegative
    """Weight of the divergence."""
    missing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of the training views that are declared missing, completely at random;
    every row keeps one."""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    """Of weights, data and noise."""
    evaluate_every: int = pydantic.Field(default=0, ge=0)
    """Epochs between evaluations on the validation split, whose numbers and images
    TensorBoard gets; 0: none."""

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _from_text(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """None and lists, where they come as texts; no booleans as numbers."""
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

    @pydantic.field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        if value not in SCHEDULES:
            raise ValueError(f"unknown schedule. {one_of(SCHEDULES, value)}")
        return value

    @pydantic.field_validator("learning_rate_drops")
    @classmethod
    def _in_order(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (not value or sorted(set(value)) != list(value)):
            raise ValueError("expected shares, the smaller first")
        return value

    @pydantic.model_validator(mode="after")
    def _fit_together(self) -> "TrainConfig":
        """Refuses what would have no effect, or can't work, beside other settings."""
        for field in sorted(
            set().union(*SCHEDULES.values()) - SCHEDULES[self.schedule]
        ):
            if getattr(self, field) != type(self).model_fields[field].default:
                those = [name for name, takes in SCHEDULES.items() if field in takes]
                raise ValueError(
                    f"{field}: is for schedule {' or '.join(those)}. Received: "
                    f"schedule {self.schedule}."
                )
        for field, strategy in (("devices", "mirrored"), ("tpu", "tpu")):
            if getattr(self, field) and self.strategy != strategy:
                raise ValueError(
                    f"{field}: is for strategy {strategy}. Received: strategy "
                    f"{self.strategy}."
                )
        if self.execution == "eager" and self.strategy == "tpu":
            raise ValueError("execution: a TPU runs nothing eagerly. Choose graph.")
        if self.execution == "eager" and self.tensorboard_graph:
            raise ValueError(
                "tensorboard_graph: there is no graph with execution eager. Choose one."
            )
        return self

    @classmethod
    def help_of(cls, field: str) -> str:
        """The text below a field, here or where a recipe has it from, in one line."""
        for parent in cls.__mro__:
            known = getattr(parent, "model_fields", {}).get(field)
            if known and known.description:
                return " ".join(known.description.split())
        return ""


ConfigT = TypeVar("ConfigT", bound=TrainConfig)


def parse_assignments(
    assignments: Sequence[str], option: str = "--set", form: str = "key=value"
) -> dict[str, str]:
    """Splits the `key=value` texts of an option.

    Raises:
      UsageError: If one has no `=` or a key comes twice.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"{option} expects {form}. Received: {assignment!r}.")
        if key in values:
            raise UsageError(f"{option} gives {key!r} twice.")
        values[key] = value
    return values


def add_epochs(settings: dict[str, str], epochs: str | None) -> None:
    """Adds what `--epochs` says, if it was given.

    Raises:
      UsageError: If `--set` gives it too.
    """
    if epochs is None:
        return
    if "epochs" in settings:
        raise UsageError("epochs: given by --epochs and by --set. Give it once.")
    settings["epochs"] = epochs


def make_config(config_class: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Validates `values`, texts or already of the right type.

    Raises:
      SettingError: In one line that names the field, what was expected and what came.
    """
    try:
        return config_class(**values)
    except pydantic.ValidationError as error:
        raise _setting_error(config_class, error) from None


def _setting_error(
    config_class: type[TrainConfig], error: pydantic.ValidationError
) -> SettingError:
    """Of the first of its errors."""
    first = error.errors()[0]
    received = reprlib.repr(first["input"])
    message = str(first.get("ctx", {}).get("error", first["msg"]))
    if not first["loc"]:  # of several fields, whose message begins with one
        return SettingError(message.partition(":")[0], message)
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = one_of(config_class.model_fields, field)
        return SettingError(field, f"unknown setting {field!r}. {known}")
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = get_args(config_class.model_fields[field].annotation)
        message = f"unknown choice. {one_of(choices, first['input'])}"
    return SettingError(field, f"{field}: {message.rstrip('.')}. Received: {received}.")
