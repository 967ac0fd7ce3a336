"""Optimizer, precision and execution of the training step, from the configuration."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import keras

    from trainers.config import TrainConfig

Rate: TypeAlias = "float | keras.optimizers.schedules.LearningRateSchedule"

#: What is left at the end where the rate falls exponentially, which never reaches 0.
EXPONENTIAL_SHARE = 0.01
#: Steps of a training from which on compilation by XLA pays.
WORTH_COMPILING = 1000
#: Where, of all steps, the rate falls to a tenth.
DROPS = (0.5, 0.75)


def make_optimizer(config: "TrainConfig", num_steps: int) -> "keras.optimizers.Adam":
    """Adam with the schedule and the clipping that the configuration names.

    Args:
      config: Its `learning_rate` fields and `clip_norm`.
      num_steps: Of the whole training, which schedules stretch over.
    """
    import keras

    rate = SCHEDULES[config.schedule].make(config, num_steps)
    return keras.optimizers.Adam(rate, global_clipnorm=config.clip_norm)


def compile_options(config: "TrainConfig", num_steps: int) -> dict[str, bool]:
    """Arguments of the model's `compile` that `execution` stands for.

    `"auto"` is XLA for trainings of `WORTH_COMPILING` steps on one device: on a CPU of
    2 cores a step took 0.67 of a graph's time (`benchmarks/execution.py`), compilation
    three times as long. Not measured on GPUs and on several devices; there XLA
    compiles each one's gradients. On a TPU steps always run compiled by XLA, without
    the argument.

    Args:
      config: Its `execution` and `strategy`.
      num_steps: Of the whole training.
    """
    compiled = config.execution == "xla"
    if config.execution == "auto":
        alone = config.strategy == "one_device"
        compiled = alone and num_steps >= WORTH_COMPILING
    return {
        "jit_compile": compiled and config.strategy != "tpu",
        "run_eagerly": config.execution == "eager",
    }


def set_precision(config: "TrainConfig") -> None:
    """Sets Keras's policy for all models made from now on in this process."""
    import keras

    keras.config.set_dtype_policy(config.precision)


def _constant(config: "TrainConfig", num_steps: int) -> Rate:
    """Stays at `learning_rate`, once it has risen."""
    import keras

    rise = _warmup_steps(config, num_steps)
    if not rise:
        return config.learning_rate
    return keras.optimizers.schedules.PolynomialDecay(0.0, rise, config.learning_rate)


def _cosine(config: "TrainConfig", num_steps: int) -> Rate:
    """Falls along half a cosine to its final share, once it has risen."""
    import keras

    rise = _warmup_steps(config, num_steps)
    decay = keras.optimizers.schedules.CosineDecay
    share = config.learning_rate_final_share or 0.0
    if not rise:
        return decay(config.learning_rate, num_steps, alpha=share)
    return decay(
        0.0,
        num_steps - rise,
        alpha=share,
        warmup_target=config.learning_rate,
        warmup_steps=rise,
    )


def _linear(config: "TrainConfig", num_steps: int) -> Rate:
    """Falls in a line to its final share."""
    import keras

    end = config.learning_rate * (config.learning_rate_final_share or 0.0)
    return keras.optimizers.schedules.PolynomialDecay(
        config.learning_rate, num_steps, end
    )


def _exponential(config: "TrainConfig", num_steps: int) -> Rate:
    """Falls by the same factor in each step, to its final share."""
    import keras

    share = config.learning_rate_final_share or EXPONENTIAL_SHARE
    return keras.optimizers.schedules.ExponentialDecay(
        config.learning_rate, num_steps, share
    )


def _piecewise(config: "TrainConfig", num_steps: int) -> Rate:
    """Falls to a tenth of itself at each of the drops."""
    import keras

    drops = config.learning_rate_drops or DROPS
    # A boundary is the last step with the rate before it.
    boundaries = [max(1, round(share * num_steps)) - 1 for share in drops]
    rates = [config.learning_rate / 10**n for n in range(len(drops) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)


def _warmup_steps(config: "TrainConfig", num_steps: int) -> int:
    """One step at least is left to fall in."""
    return min(round(config.learning_rate_warmup * num_steps), num_steps - 1)


class Schedule(NamedTuple):
    """A learning rate over the steps of a training.

    Only classes of Keras, so that a model loads where there is no training application.

    Attributes:
      make: From a configuration and the number of all steps to the rate.
      settings: Which of `SCHEDULE_SETTINGS` it takes.
    """

    make: Callable[["TrainConfig", int], Rate]
    settings: frozenset[str] = frozenset()


#: The schedules, by name.
SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(_constant, frozenset({"learning_rate_warmup"})),
    "cosine": Schedule(
        _cosine, frozenset({"learning_rate_warmup", "learning_rate_final_share"})
    ),
    "exponential": Schedule(_exponential, frozenset({"learning_rate_final_share"})),
    "linear": Schedule(_linear, frozenset({"learning_rate_final_share"})),
    "piecewise": Schedule(_piecewise, frozenset({"learning_rate_drops"})),
}

#: Settings of some schedules only.
SCHEDULE_SETTINGS = frozenset().union(*(x.settings for x in SCHEDULES.values()))
