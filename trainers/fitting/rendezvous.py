"""Waits for the other workers of `multi_worker`, before TensorFlow does.

TensorFlow waits in C++ while it holds Python's lock: it prints nothing, and Python runs
no signal handler. So the workers meet here first. Each listens at its own address of
`TF_CONFIG` until it has reached all others; TensorFlow uses the same ports afterwards.
"""

import socket
import sys
import time
from collections.abc import Sequence

from trainers.errors import RunError

#: Seconds before the first message, and at most between two; doubled after each.
FIRST_MESSAGE, MAX_SILENCE = 5.0, 60.0
#: Seconds between attempts to reach a worker, and timeout of an attempt.
RETRY_INTERVAL, ATTEMPT_TIMEOUT = 0.2, 2.0


def wait_for_workers(addresses: Sequence[str], index: int, *, limit: float) -> None:
    """Returns when all other workers have been reached; reports on stderr meanwhile.

    A worker counts as reached once its port accepts a connection, whether this function
    listens there or TensorFlow, which that worker has started.

    Args:
      addresses: "host:port" of all workers.
      index: Position of this worker in `addresses`.
      limit: Maximum time to wait, in seconds.

    Raises:
      RunError: If a worker can't be reached in that time, or this worker's port can't
        be opened.
    """
    missing = {n: a for n, a in enumerate(addresses) if n != index}
    start = time.monotonic()
    next_message, pause = start + FIRST_MESSAGE, FIRST_MESSAGE
    # Connections are never accepted: the system completes those within the backlog.
    with _listen(addresses[index], backlog=128 + 4 * len(addresses)):
        while True:
            missing = {n: a for n, a in missing.items() if not _is_reached(a)}
            now = time.monotonic()
            if not missing:
                return
            names = ", ".join(f"worker {n} ({a})" for n, a in missing.items())
            if now - start > limit:
                raise RunError(
                    f"strategy: worker {index} waited {limit:g} s, but can't reach "
                    f"{names}. Run the same command there too, and check that this "
                    "host reaches its address in TF_CONFIG."
                )
            if now > next_message:
                print(
                    f"worker {index}: waiting for {names} "
                    f"({now - start:.0f} s, at most {limit:g}).",
                    file=sys.stderr,
                    flush=True,
                )
                pause = min(2 * pause, MAX_SILENCE)
                next_message = now + pause
            time.sleep(RETRY_INTERVAL)


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of "host:port".

    Raises:
      ValueError: If the address does not have that form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"`address` must be host:port. Received: {address!r}.")
    return host.strip("[]"), int(port)


def _is_reached(address: str) -> bool:
    try:
        socket.create_connection(split_address(address), ATTEMPT_TIMEOUT).close()
    except OSError:
        return False
    return True


def _listen(address: str, *, backlog: int) -> socket.socket:
    """Listens at this worker's port, on all interfaces as TensorFlow does."""
    port = split_address(address)[1]
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(
            ("", port), family=family, dualstack_ipv6=dual, backlog=backlog
        )
    except OSError as error:
        raise RunError(
            f"strategy: can't open this worker's address in TF_CONFIG, {address}: "
            f"{error.strerror}. Stop the process that uses it, or choose another port."
        ) from None
