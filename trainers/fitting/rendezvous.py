"""Waiting for the other workers of `multi_worker`, before TensorFlow does.

TensorFlow waits in C++ while it holds Python's lock: it says nothing, and Python runs
no signal handler. So the workers meet here first. Each listens at its own address of
`TF_CONFIG` until it has reached all others; the same ports are TensorFlow's afterwards.
"""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from trainers.errors import RunError

#: Seconds before the first message, and at most between two; doubled after each.
FIRST_MESSAGE, MAX_SILENCE = 5.0, 60.0
#: Seconds between attempts to reach a worker, and that an attempt may take.
BETWEEN_ATTEMPTS, ATTEMPT = 0.2, 2.0


def wait_for_workers(addresses: Sequence[str], index: int, *, limit: float) -> None:
    """Returns when all other workers have been reached; says on stderr who has not.

    A worker counts as there once its port accepts a connection, be it this function
    that listens there or TensorFlow, which that worker has gone on to.

    Args:
      addresses: "host:port" of all workers.
      index: This worker's place in them.
      limit: Seconds to wait.

    Raises:
      RunError: If a worker can't be reached in that time, or this worker's port can't
        be opened.
    """
    awaited = {n: a for n, a in enumerate(addresses) if n != index}
    start = time.monotonic()
    message, pause = start + FIRST_MESSAGE, FIRST_MESSAGE
    with _listening(addresses[index]):
        while True:
            awaited = {n: a for n, a in awaited.items() if not _answers(a)}
            now = time.monotonic()
            if not awaited:
                return
            if now - start > limit:
                raise RunError(
                    f"strategy: worker {index} waited {limit:g} s, but there is no "
                    f"{_listed(awaited)}. Run the same command there too, and check "
                    "that this host reaches its address in TF_CONFIG."
                )
            if now > message:
                print(
                    f"worker {index}: waiting for {_listed(awaited)} "
                    f"({now - start:.0f} s, at most {limit:g}).",
                    file=sys.stderr,
                    flush=True,
                )
                pause = min(2 * pause, MAX_SILENCE)
                message = now + pause
            time.sleep(BETWEEN_ATTEMPTS)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port".

    Raises:
      ValueError: If it is not of that form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError
    return host.strip("[]"), int(port)


def _listed(workers: dict[int, str]) -> str:
    return ", ".join(f"worker {n} ({address})" for n, address in workers.items())


def _answers(address: str) -> bool:
    try:
        socket.create_connection(split_address(address), timeout=ATTEMPT).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _listening(address: str) -> Iterator[None]:
    """Accepts connections at this worker's port, on all interfaces as TensorFlow."""
    port = split_address(address)[1]
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        listener = socket.create_server(
            ("", port), family=family, dualstack_ipv6=dual, backlog=128
        )
    except OSError as error:
        raise RunError(
            f"strategy: can't open this worker's address in TF_CONFIG, {address}: "
            f"{error.strerror}. Stop the process that has it, or choose another port."
        ) from None
    with listener:
        listener.settimeout(BETWEEN_ATTEMPTS)
        done = threading.Event()
        thread = threading.Thread(target=_accept, args=(listener, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _accept(listener: socket.socket, done: threading.Event) -> None:
    while not done.is_set():
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
