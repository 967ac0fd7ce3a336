"""Optimizer, precision and execution of the training step, from the configuration."""

from typing import TYPE_CHECKING, TypeAlias

from trainers.config.train_config import TrainConfig

if TYPE_CHECKING:
    import keras

Rate: TypeAlias = "float | keras.optimizers.schedules.LearningRateSchedule"

#: Final share of the exponential schedule, which never reaches 0.
EXPONENTIAL_SHARE = 0.01
#: Number of steps from which compilation by XLA pays.
WORTH_COMPILING = 1000
#: Shares of all steps after which the piecewise schedule drops to a tenth.
DROPS = (0.5, 0.75)


def make_optimizer(config: TrainConfig, num_steps: int) -> "keras.optimizers.Adam":
    """Makes Adam with the configuration's schedule and clipping.

    Args:
      config: Configuration with the `learning_rate` fields and `clip_norm`.
      num_steps: Number of steps of the whole training, over which schedules stretch.
    """
    import keras

    rate = make_schedule(config, num_steps)
    return keras.optimizers.Adam(rate, global_clipnorm=config.clip_norm)


def compile_options(config: TrainConfig, num_steps: int) -> dict[str, bool]:
    """Returns the arguments of the model's `compile` that `execution` stands for.

    `"auto"` is XLA for trainings of `WORTH_COMPILING` steps on one device: on a CPU of
    2 cores a step took 0.67 of a graph's time (`benchmarks/execution.py`), compilation
    three times as long. Not measured on GPUs and on several devices; there XLA
    compiles each one's gradients. On a TPU steps always run compiled by XLA, without
    the argument.

    Args:
      config: Configuration with `execution` and `strategy`.
      num_steps: Number of steps of the whole training.
    """
    compiled = config.execution == "xla"
    if config.execution == "auto":
        compiled = config.strategy == "one_device" and num_steps >= WORTH_COMPILING
    return {
        "jit_compile": compiled and config.strategy != "tpu",
        "run_eagerly": config.execution == "eager",
    }


def make_schedule(config: TrainConfig, num_steps: int) -> Rate:
    """Makes the schedule of the learning rate; a number if it is constant.

    Only Keras's classes are used, so that a saved model loads where this application is
    not installed.
    """
    from keras.optimizers import schedules

    rate, share = config.learning_rate, config.learning_rate_final_share
    # At least one step is left for the decay.
    warmup = min(round(config.learning_rate_warmup * num_steps), num_steps - 1)
    match config.schedule:
        case "constant":
            return schedules.PolynomialDecay(0.0, warmup, rate) if warmup else rate
        case "cosine":
            if not warmup:
                return schedules.CosineDecay(rate, num_steps, alpha=share or 0.0)
            return schedules.CosineDecay(
                0.0,
                num_steps - warmup,
                alpha=share or 0.0,
                warmup_target=rate,
                warmup_steps=warmup,
            )
        case "linear":
            return schedules.PolynomialDecay(rate, num_steps, rate * (share or 0.0))
        case "exponential":
            return schedules.ExponentialDecay(
                rate, num_steps, share or EXPONENTIAL_SHARE
            )
        case "piecewise":
            drops = config.learning_rate_drops or DROPS
            # A boundary is the last step with the rate before it.
            boundaries = [max(1, round(drop * num_steps)) - 1 for drop in drops]
            rates = [rate / 10**n for n in range(len(drops) + 1)]
            return schedules.PiecewiseConstantDecay(boundaries, rates)
    raise ValueError(f"`schedule` has no implementation: {config.schedule!r}.")
