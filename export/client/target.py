"""Which model is asked, where, and how."""

from typing import NamedTuple

from export.signatures.contract import MAX_BATCH_SIZE
from export.signatures.whole_numbers import INT64, check_whole

#: Seconds; sockets can't count much further.
MAX_TIMEOUT = 86_400


class Target(NamedTuple):
    """Which model is asked, where, and how.

    Attributes:
      address: Address of the server.
      model: Name of the model.
      version: Number of the version; None for the newest (or `label`).
      label: Version label, such as "stable"; None for none.
      timeout: Seconds for one attempt.
      retries: Attempts after the first.
      max_batch_size: Largest number of rows of one request.
    """

    address: str
    model: str
    version: int | None = None
    label: str | None = None
    timeout: float = 10.0
    retries: int = 3
    max_batch_size: int = MAX_BATCH_SIZE

    def __str__(self) -> str:
        """As messages name it."""
        wanted = "" if self.version is None else f" version {self.version}"
        wanted += "" if self.label is None else f" label {self.label!r}"
        return f"model {self.model!r}{wanted} at {self.address}"

    def checked(self) -> "Target":
        """The same with Python's numbers; refuses invalid arguments.

        Raises:
          TypeError: Naming the argument that has the wrong type.
          ValueError: Naming the argument that has the wrong value.
        """
        for name in ("address", "model", "label"):
            text = getattr(self, name)
            if text is None and name == "label":
                continue
            if not isinstance(text, str):
                raise TypeError(f"`{name}` must be a str. Received: {text!r}.")
            if not text:
                raise ValueError(f"`{name}` must have a character or more.")
        if self.version is not None and self.label is not None:
            raise ValueError("Give `version` or `label`, not both.")
        version = self.version
        if version is not None:
            version = check_whole("version", version, least=0, most=INT64[1])
        try:
            if isinstance(self.timeout, bool):
                raise TypeError
            possible = 0 < self.timeout <= MAX_TIMEOUT
        except TypeError:
            raise TypeError(
                f"`timeout` must be a number of seconds. Received: {self.timeout!r}."
            ) from None
        if not possible:
            raise ValueError(
                f"`timeout` must be above 0 and at most {MAX_TIMEOUT} s. "
                f"Received: {self.timeout}."
            )
        return self._replace(
            version=version,
            timeout=float(self.timeout),
            retries=check_whole("retries", self.retries, least=0),
            max_batch_size=check_whole("max_batch_size", self.max_batch_size, least=1),
        )
