"""Devices and hosts: the settings `strategy`, `devices`, `tpu` and `threads`."""

import contextlib
import faulthandler
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError, UsageError
from trainers.fitting.rendezvous import split_address, wait_for_workers

if TYPE_CHECKING:
    import tensorflow as tf

#: Seconds that workers which have all been reached have to connect to one another.
CONNECT_TIMEOUT = 60


class Workers:
    """The processes that train together; one, unless the strategy is multi_worker.

    Attributes:
      strategy: Strategy of tf.distribute; models are made in `strategy.scope()`.
      index: Index of this process, from 0.
      count: Number of processes.
      chief: Whether this process writes the run folder.
    """

    def __init__(
        self, strategy: "tf.distribute.Strategy", index: int = 0, count: int = 1
    ):
        self.strategy, self.index, self.count = strategy, index, count
        self.chief = index == 0

    def any_worker(self, flag: bool) -> bool:
        """Whether the flag is true in any worker; all workers must call this."""
        return flag if self.count == 1 else self._mean(float(flag)) > 0.0

    def all_workers_equal(self, number: int) -> bool:
        """Whether the number is equal in all workers; all workers must call this."""
        if self.count == 1:
            return True
        return not self.any_worker(self._mean(float(number)) != number)

    def _mean(self, number: float) -> float:
        import tensorflow as tf

        numbers = self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(number, tf.float64)
        )
        return float(self.strategy.reduce("MEAN", numbers, axis=None))


def make_workers(config: TrainConfig) -> Workers:
    """Prepares TensorFlow's threads and devices, before TensorFlow computes anything.

    Raises:
      UsageError: If this machine or `TF_CONFIG` does not fit the settings.
      RunError: If the TPU or another worker can't be reached.
      Stopped: If a signal was received while waiting for another worker.
    """
    import tensorflow as tf

    if config.threads is not None:
        for kind in ("intra", "inter"):
            name = f"{kind}_op_parallelism_threads"
            if getattr(tf.config.threading, f"get_{name}")() != config.threads:
                setter = getattr(tf.config.threading, f"set_{name}")
                _configure("threads", setter, config.threads)
    if config.strategy == "mirrored":
        return Workers(tf.distribute.MirroredStrategy(_local_devices(config.devices)))
    if config.strategy == "multi_worker":
        index, addresses = read_tf_config()
        wait_for_workers(addresses, index, limit=60 * config.wait_minutes)
        strategy = _connect(index, len(addresses))
        return Workers(strategy, index, len(addresses))
    if config.strategy == "tpu":
        return Workers(_tpu_strategy(config.tpu))
    return Workers(tf.distribute.get_strategy())


def _configure(field: str, function: Callable, *arguments: Any) -> None:
    """Calls a function of TensorFlow that only works before it has started."""
    try:
        function(*arguments)
    except RuntimeError:
        raise UsageError(
            f"{field}: must be set before TensorFlow starts, but it has started in "
            "this process. Train in another process."
        ) from None


def _connect(index: int, count: int) -> "tf.distribute.Strategy":
    """The strategy of workers that have all been reached."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    if count > 1:  # else TensorFlow's timeout of an hour
        service = tf.compat.v1.ConfigProto().experimental.coordination_config
        service.coordinated_job_list.add(name="worker", num_tasks=count)
        context.context().configure_coordination_service(
            service_type="standalone",
            service_leader="/job:worker/replica:0/task:0",
            cluster_register_timeout_in_ms=1000 * CONNECT_TIMEOUT,
            coordinated_jobs=[*service.coordinated_job_list],
        )
    try:
        with _exit_after(2 * CONNECT_TIMEOUT):
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        first = error.message.partition("\n")[0]
        raise RunError(
            f"strategy: worker {index} can't connect to the others, which it had "
            f"reached before: {first}. Run the same command again on all hosts."
        ) from None


@contextlib.contextmanager
def _exit_after(seconds: float) -> Iterator[None]:
    """Ends the process with exit code 1 and a traceback if it takes longer.

    This works while C++ code holds Python's lock, as a thread of Python would not.
    """
    file = sys.__stderr__
    if file is not None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _local_devices(count: int | None) -> list[str]:
    """Names of this host's GPUs, or of logical CPUs."""
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
    _configure("devices", tf.config.set_logical_device_configuration, cpu, logical)
    return [f"CPU:{index}" for index in range(count)]


def read_tf_config() -> tuple[int, list[str]]:
    """Returns this worker's index and the addresses of all, from `TF_CONFIG`.

    Raises:
      UsageError: If it is missing or does not have TensorFlow's form.
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
    """Raises KeyError, TypeError or ValueError if it does not hold workers alone."""
    workers, task = content["cluster"]["worker"], content["task"]
    if len(content["cluster"]) != 1 or task["type"] != "worker":
        raise ValueError("expected workers alone")
    if not isinstance(workers, list) or len(set(workers)) < len(workers):
        raise ValueError("expected a list of different addresses")
    for address in workers:
        if not isinstance(address, str):
            raise TypeError("expected addresses as texts")
        split_address(address)
    index = int(task["index"]) if isinstance(task["index"], str) else task["index"]
    if type(index) is not int or not 0 <= index < len(workers):
        raise ValueError("expected the index of a worker")
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
