"""SIGTERM and SIGINT: training stops after the step at hand, with a checkpoint."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from trainers.errors import Stopped


class Signals:
    """Handles SIGTERM and SIGINT while it is entered; then those before do again.

    A signal stops at once, by raising `Stopped`, but within `deferred`, where it is
    only noted. A second SIGINT kills. Handlers are set in the main thread only, as
    Python demands: in others signals do what they did.

    Attributes:
      received: Name of the signal that came; None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._doing: str | None = "before training began"  # None: deferred
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        self.set_handlers()
        return self

    def set_handlers(self) -> None:
        """Again, where a library has set its own, as TensorFlow does for workers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.signal(number, self._handle)
                self._before.setdefault(number, before)

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self.received = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._stop_if_received()

    def _stop_if_received(self) -> None:
        if self.received and self._doing:
            self.stop(f"{self._doing}; the same command goes on")

    def stop(self, where: str) -> None:
        """Raises `Stopped`, which says where the training stands."""
        raise Stopped(f"stopped by {self.received or 'a signal elsewhere'} {where}.")

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals are noted: who does the work looks at `received`, and calls `stop`.

        One that comes after the last look stops when all is done.
        """
        with self._now(None):
            yield
        self._doing = "when training was complete"
        self._stop_if_received()

    @contextlib.contextmanager
    def at_once(self, doing: str) -> Iterator[None]:
        """Within `deferred`: signals stop at once again, as nothing would be lost."""
        with self._now(doing):
            yield

    @contextlib.contextmanager
    def _now(self, doing: str | None) -> Iterator[None]:
        # One before might have been swallowed by a library.
        self._stop_if_received()
        before, self._doing = self._doing, doing
        try:
            self._stop_if_received()
            yield
        finally:
            self._doing = before
