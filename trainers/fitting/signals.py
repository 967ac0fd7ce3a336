"""SIGTERM and SIGINT: training stops after the current step, with a checkpoint."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from trainers.errors import Stopped


class Signals:
    """Handles SIGTERM and SIGINT within a `with` statement.

    A signal stops the command immediately, by raising `Stopped`, except within
    `deferred`, where it is only recorded. A second SIGINT kills the process. Python
    sets handlers in the main thread only; other threads leave signals as they are.

    Attributes:
      received: Name of the received signal, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._activity: str | None = "before training began"  # None: deferred
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self.set_handlers()
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def set_handlers(self) -> None:
        """Sets the handlers, again after a library has set its own."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                previous = signal.signal(number, self._handle)
                self._previous.setdefault(number, previous)

    def _handle(self, number: int, frame: Any) -> None:
        self.received = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._stop_if_received()

    def _stop_if_received(self) -> None:
        if self.received and self._activity:
            self.stop(self._activity)

    def stop(self, when: str) -> None:
        """Raises `Stopped` with the signal and the progress of the training."""
        name = self.received or "a signal in another process"
        raise Stopped(
            f"stopped by {name} {when}; run the same command again to resume."
        )

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Records signals only: the code within checks `received` and calls `stop`.

        A signal after the last check stops the command at the end.
        """
        with self._during(None):
            yield
        self._activity = "when training was complete"
        self._stop_if_received()

    @contextlib.contextmanager
    def immediate(self, activity: str) -> Iterator[None]:
        """Within `deferred`: signals stop immediately, as nothing would be lost."""
        with self._during(activity):
            yield

    @contextlib.contextmanager
    def _during(self, activity: str | None) -> Iterator[None]:
        # A library may have swallowed an earlier `Stopped`.
        self._stop_if_received()
        previous, self._activity = self._activity, activity
        try:
            self._stop_if_received()
            yield
        finally:
            self._activity = previous
