"""Devices and hosts: what `strategy`, `devices`, `tpu` and `threads` stand for."""

import contextlib
import faulthandler
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError, UsageError
from trainers.fitting.rendezvous import split_address, wait_for_workers

if TYPE_CHECKING:
    import tensorflow as tf

#: Seconds in which workers that have all been there connect to one another.
CONNECTING = 60


class Workers:
    """The processes that train together; one, unless the strategy is multi_worker.

    Attributes:
      strategy: Strategy of tf.distribute; `strategy.scope()` is where models are made.
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
      RunError: If the TPU or another worker can't be reached.
      Stopped: If a signal came while waiting for another worker.
    """
    import tensorflow as tf

    if config.threads is not None:
        _set_threads(config.threads)
    if config.strategy == "mirrored":
        return Workers(tf.distribute.MirroredStrategy(_local_devices(config.devices)))
    if config.strategy == "multi_worker":
        index, addresses = _place_in_cluster()
        wait_for_workers(addresses, index, limit=60 * config.wait_minutes)
        strategy = _connect(index, len(addresses))
        return Workers(strategy, index, len(addresses))
    if config.strategy == "tpu":
        return Workers(_tpu_strategy(config.tpu))
    return Workers(tf.distribute.get_strategy())


def _connect(index: int, count: int) -> "tf.distribute.Strategy":
    """The strategy of workers that are all there."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    if count > 1:  # else TensorFlow's own, of an hour
        service = tf.compat.v1.ConfigProto().experimental.coordination_config
        service.coordinated_job_list.add(name="worker", num_tasks=count)
        context.context().configure_coordination_service(
            service_type="standalone",
            service_leader="/job:worker/replica:0/task:0",
            cluster_register_timeout_in_ms=1000 * CONNECTING,
            coordinated_jobs=[*service.coordinated_job_list],
        )
    try:
        with _time_limit(2 * CONNECTING):
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        first = error.message.partition("\n")[0]
        raise RunError(
            f"strategy: worker {index} can't connect to the others, which were there "
            f"before: {first}. Run the same command again on all hosts."
        ) from None


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Ends the process with exit code 1, and with the place, if it takes longer.

    It works while C++ code holds Python's lock, as no thread of Python does.
    """
    file = sys.__stderr__
    if file is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=file)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


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


def _place_in_cluster() -> tuple[int, list[str]]:
    """This worker's index and the addresses of all, from `TF_CONFIG`.

    Raises:
      UsageError: If it is not there or not as TensorFlow wants it.
    """
    example = (
        '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    text = os.environ.get("TF_CONFIG", "")
    try:
        return _parse_cluster(json.loads(text))
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            "strategy: 'multi_worker' needs the environment variable TF_CONFIG on "
            f"each host, such as {example}. Received: {text!r}. To try it on one "
            "machine: --local-workers 2."
        ) from None


def _parse_cluster(content: Any) -> tuple[int, list[str]]:
    """Raises KeyError, TypeError or ValueError if it is not of workers alone."""
    workers: Sequence[str] = content["cluster"]["worker"]
    task = content["task"]
    if len(content["cluster"]) != 1 or task["type"] != "worker":
        raise ValueError
    if not isinstance(workers, list) or len(set(workers)) < len(workers):
        raise ValueError
    for address in workers:
        if not isinstance(address, str):
            raise TypeError
        split_address(address)
    index = task["index"]
    if isinstance(index, str):
        index = int(index)
    if type(index) is not int or not 0 <= index < len(workers):
        raise ValueError
    return index, workers


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
