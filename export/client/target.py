"""Which model a client asks, where, and how."""

from typing import NamedTuple

from export.signatures.contract import MAX_BATCH_SIZE
from export.signatures.whole_numbers import INT64, check_whole

#: Largest timeout in seconds; sockets cannot count much further.
MAX_TIMEOUT = 86_400


class Target(NamedTuple):
    """Which model a client asks, where, and how.

    Attributes:
      address: Address of the server.
      model: Name of the model.
      version: Number of the version; None for the newest (or `label`).
      label: Version label, such as "stable"; None for none.
      timeout: Seconds for one attempt.
      retries: Number of attempts after the first.
      max_batch_size: Largest number of rows of one request.

    Example:
      >>> print(Target("localhost:8500", "digits", version=3))
      model 'digits' version 3 at localhost:8500
    """

    address: str
    model: str
    version: int | None = None
    label: str | None = None
    timeout: float = 10.0
    retries: int = 3
    max_batch_size: int = MAX_BATCH_SIZE

    def __str__(self) -> str:
        """The form that error messages use."""
        which = "" if self.version is None else f" version {self.version}"
        which += "" if self.label is None else f" label {self.label!r}"
        return f"model {self.model!r}{which} at {self.address}"

    def checked(self) -> "Target":
        """A copy with Python's number types.

        Raises:
          TypeError, ValueError: If an argument is invalid; the message names it.
        """
        texts = {"address": self.address, "model": self.model}
        if self.label is not None:
            texts["label"] = self.label
        for name, text in texts.items():
            if not isinstance(text, str):
                raise TypeError(f"`{name}` must be a str. Received: {text!r}.")
            if not text:
                raise ValueError(f"`{name}` must have a character or more.")
        if self.version is not None and self.label is not None:
            raise ValueError("Give `version` or `label`, not both.")
        version = self.version
        if version is not None:
            version = check_whole("version", version, maximum=INT64[1])
        try:
            if isinstance(self.timeout, bool):
                raise TypeError
            is_valid = 0 < self.timeout <= MAX_TIMEOUT
        except TypeError:
            raise TypeError(
                f"`timeout` must be a number of seconds. Received: {self.timeout!r}."
            ) from None
        if not is_valid:
            raise ValueError(
                f"`timeout` must be above 0 and at most {MAX_TIMEOUT} s. "
                f"Received: {self.timeout}."
            )
        return self._replace(
            version=version,
            timeout=float(self.timeout),
            retries=check_whole("retries", self.retries),
            max_batch_size=check_whole(
                "max_batch_size", self.max_batch_size, minimum=1
            ),
        )
