"""Devices and hosts: what `strategy`, `devices`, `tpu` and `threads` stand for."""

import json
import os
from typing import TYPE_CHECKING, Any

from trainers.config import TrainConfig
from trainers.errors import RunError, UsageError

if TYPE_CHECKING:
    import tensorflow as tf


class Workers:
    """The processes that train together; one, unless the strategy is multi_worker.

    Attributes:
      strategy: Of tf.distribute; `strategy.scope()` is where models are made.
      index: Of this process, from 0.
      count: Of processes.
      chief: Whether this process writes the run folder.
    """

    def __init__(
        self, strategy: "tf.distribute.Strategy", index: int = 0, count: int = 1
    ):
        self.strategy, self.index, self.count = strategy, index, count
        self.chief = index == 0

    def agree(self, flag: bool) -> bool:
        """Whether any of the workers says so; every worker must ask."""
        return flag if self.count == 1 else self._mean(float(flag)) > 0.0

    def same(self, number: int) -> bool:
        """Whether all workers give the same number; every worker must ask."""
        return self.count == 1 or not self.agree(self._mean(float(number)) != number)

    def _mean(self, number: float) -> float:
        import tensorflow as tf

        numbers = self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(number, tf.float64)
        )
        return float(self.strategy.reduce("MEAN", numbers, axis=None))


def make_workers(config: TrainConfig) -> Workers:
    """Prepares TensorFlow's threads and devices; before it has computed anything.

    Raises:
      UsageError: If this machine or `TF_CONFIG` is not what the settings need.
      RunError: If the TPU can't be reached.
    """
    import tensorflow as tf

    if config.threads is not None:
        _set_threads(config.threads)
    if config.strategy == "mirrored":
        return Workers(tf.distribute.MirroredStrategy(_local_devices(config.devices)))
    if config.strategy == "multi_worker":
        index, count = _place_in_cluster()
        return Workers(tf.distribute.MultiWorkerMirroredStrategy(), index, count)
    if config.strategy == "tpu":
        return Workers(_tpu_strategy(config.tpu))
    return Workers(tf.distribute.get_strategy())


def _set_threads(threads: int) -> None:
    import tensorflow as tf

    settings = tf.config.threading
    try:
        for name in ("intra", "inter"):
            if getattr(settings, f"get_{name}_op_parallelism_threads")() != threads:
                getattr(settings, f"set_{name}_op_parallelism_threads")(threads)
    except RuntimeError:
        raise UsageError(
            "threads: must be set before TensorFlow starts, but this process has "
            "started it already. Train in a process of its own."
        ) from None


def _local_devices(count: int | None) -> list[str]:
    """Names of this host's GPUs, or of so many logical CPUs."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if count is not None and count > len(gpus):
            raise UsageError(
                f"devices: this host has {len(gpus)} GPUs. Received: {count}."
            )
        return [f"GPU:{index}" for index in range(count or len(gpus))]
    if count is None:
        raise UsageError(
            "strategy: 'mirrored' found no GPU on this host. To split a batch over N "
            "logical CPUs, add devices=N."
        )
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    try:
        tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError:
        raise UsageError(
            "devices: must be set before TensorFlow starts, but this process has "
            "started it already. Train in a process of its own."
        ) from None
    return [f"CPU:{index}" for index in range(count)]


def _place_in_cluster() -> tuple[int, int]:
    """This worker's index and the number of workers, from `TF_CONFIG`.

    Raises:
      UsageError: If it is not there or not as TensorFlow wants it.
    """
    example = (
        '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    text = os.environ.get("TF_CONFIG", "")
    try:
        content: Any = json.loads(text)
        workers, task = content["cluster"]["worker"], content["task"]
        index = int(task["index"])
        if len(content["cluster"]) != 1 or task["type"] != "worker":
            raise ValueError
        if not 0 <= index < len(workers):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            "strategy: 'multi_worker' needs the environment variable TF_CONFIG on "
            f"each host, such as {example}. Received: {text!r}. To try it on one "
            "machine: --local-workers 2."
        ) from None
    return index, len(workers)


def _tpu_strategy(name: str) -> "tf.distribute.Strategy":
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError) as error:
        first = str(error).partition("\n")[0]
        raise RunError(f"tpu: can't use {name or 'local'!r}: {first}") from None
