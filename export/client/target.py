"""Which model is asked, where, and how."""

import operator
from typing import Any, NamedTuple

from export.contract import MAX_BATCH_SIZE

#: Seconds; sockets can't count much further.
LONGEST_TIMEOUT = 86_400
LARGEST_VERSION = 2**63 - 1


class Target(NamedTuple):
    """Which model is asked, where, and how.

    Attributes:
      address: Of the server.
      model: Name.
      version: Number; None for the newest (or `label`).
      label: Version label, such as "stable"; None for none.
      timeout: Seconds for one attempt.
      retries: Attempts after the first.
      max_batch_size: Rows of one request at most.
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
        """The same with Python's numbers; refuses what can't be meant.

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
        if (
            version is not None
            and (version := check_whole("version", version, 0)) > LARGEST_VERSION
        ):
            raise ValueError(f"`version` must fit into int64. Received: {version}.")
        try:
            possible = 0 < self.timeout <= LONGEST_TIMEOUT
        except TypeError:
            raise TypeError(
                f"`timeout` must be a number of seconds. Received: {self.timeout!r}."
            ) from None
        if not possible:
            raise ValueError(
                f"`timeout` must be above 0 and at most {LONGEST_TIMEOUT} s. "
                f"Received: {self.timeout}."
            )
        return self._replace(
            version=version,
            timeout=float(self.timeout),
            retries=check_whole("retries", self.retries, 0),
            max_batch_size=check_whole("max_batch_size", self.max_batch_size, 1),
        )


def check_whole(name: str, value: Any, least: int) -> int:
    """`value` as an int.

    Raises:
      TypeError: If it is no whole number.
      ValueError: If it is below `least`.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an int. Received: {value!r}.") from None
    if whole < least:
        raise ValueError(f"`{name}` must be {least} or more. Received: {value}.")
    return whole
