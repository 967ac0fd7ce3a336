"""Starts several workers on this machine, as several hosts would be.

For trying `strategy=multi_worker`: the workers share this machine's CPUs.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from trainers.errors import STOPPED, RunError, Stopped, UsageError

#: Seconds that the other workers have to exit by themselves once one has died.
PATIENCE = 60.0


def run_workers(count: int, arguments: Sequence[str]) -> None:
    """Runs `mopoe-train` with these arguments in `count` processes.

    The first worker's output is the command's; the others print errors only.

    Raises:
      UsageError: If the workers refuse the settings.
      Stopped: If the workers stopped because of a signal, which is forwarded to them.
      RunError: If a worker died or failed.
    """
    addresses = [f"localhost:{port}" for port in _free_ports(count)]
    workers = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        tf_config = {"cluster": {"worker": addresses}, "task": task}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "trainers.train", *arguments],
                env={
                    **os.environ,
                    "TF_CONFIG": json.dumps(tf_config),
                    "CUDA_VISIBLE_DEVICES": "-1",
                },
                stdout=None if index == 0 else subprocess.DEVNULL,
                # The terminal's Ctrl-C reaches them through this process alone.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        )
    with _forward_signals(workers):
        codes = _wait(workers)
    if 2 in codes:
        raise UsageError("the workers refused the settings; see the line above.")
    if STOPPED in codes:
        raise Stopped("the workers stopped after a checkpoint.")
    for index, code in enumerate(codes):
        if code:
            cause = f"exit code {code}"
            if code < 0:
                cause = f"killed by {signal.Signals(-code).name}"
            raise RunError(
                f"worker {index} of {count} died ({cause}). Only work since the last "
                "checkpoint is lost; run the same command again to resume."
            )


def _end_with_parent() -> None:
    """Makes Linux stop this process when its parent is killed."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait(workers: Sequence[subprocess.Popen]) -> list[int]:
    """Exit codes, at the first failure if any; kills workers that wait for a dead one.

    Codes of workers that were running at the first failure are 0.
    """
    failed: list[int] = []
    deadline = None
    while any(worker.poll() is None for worker in workers):
        codes = [worker.poll() for worker in workers]
        if deadline is None and any(codes):
            failed = [code or 0 for code in codes]
            deadline = time.monotonic() + PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
        time.sleep(0.1)
    return failed if any(failed) else [worker.wait() for worker in workers]


@contextlib.contextmanager
def _forward_signals(workers: Sequence[subprocess.Popen]) -> Iterator[None]:
    """Forwards SIGTERM and SIGINT to the workers; kills those left at the end."""

    def forward(number, frame):
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)

    previous = {s: signal.signal(s, forward) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for worker in workers:
            worker.kill()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("localhost", 0))
        return [listener.getsockname()[1] for listener in sockets]
