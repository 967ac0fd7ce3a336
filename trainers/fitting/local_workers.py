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

#: Seconds that the others have to end by themselves once one has died.
PATIENCE = 60.0


def run_workers(count: int, arguments: Sequence[str]) -> None:
    """Runs `mopoe-train` with these arguments in `count` processes.

    The first one's output is the command's; the others say only what goes wrong.

    Raises:
      UsageError: If the workers refuse the settings.
      Stopped: If the workers stopped because of a signal, which is handed on to them.
      RunError: If one died or failed.
    """
    addresses = [f"localhost:{port}" for port in _free_ports(count)]
    command = [sys.executable, "-m", "trainers.train", *arguments]
    workers = []
    for index in range(count):
        task = {"type": "worker", "index": index}
        tf_config = {"cluster": {"worker": addresses}, "task": task}
        environment = {
            **os.environ,
            "TF_CONFIG": json.dumps(tf_config),
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        output = None if index == 0 else subprocess.DEVNULL
        # A Ctrl-C of the terminal reaches them through this process alone.
        workers.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        )
    with _handing_on(workers):
        codes = _wait(workers)
    if 2 in codes:
        raise UsageError("the workers refused, as said above.")
    if STOPPED in codes:
        raise Stopped("the workers stopped after a checkpoint.")
    for index, code in enumerate(codes):
        if code:
            how = f"exit code {code}"
            if code < 0:
                how = f"killed by {signal.Signals(-code).name}"
            raise RunError(
                f"worker {index} of {count} died ({how}). Nothing is lost but the work "
                "since the last checkpoint; the same command resumes there."
            )


def _end_with_parent() -> None:
    """Has Linux stop this process when the one that started it is killed."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait(workers: Sequence[subprocess.Popen]) -> list[int]:
    """Exit codes, the first failure's first; ends those that wait for a dead one."""
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
def _handing_on(workers: Sequence[subprocess.Popen]) -> Iterator[None]:
    def hand_on(number, frame):
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)

    before = {s: signal.signal(s, hand_on) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for worker in workers:
            worker.kill()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("localhost", 0))
        return [listener.getsockname()[1] for listener in sockets]
