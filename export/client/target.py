"""Which model is asked, where, and how."""

from typing import NamedTuple

from export.contract import MAX_BATCH_SIZE


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

    def check(self) -> None:
        """Refuses what can't be meant.

        Raises:
          ValueError: Naming the argument.
        """
        if not self.model:
            raise ValueError("`model` must be the name of a served model. Received ''.")
        if self.version is not None and self.label is not None:
            raise ValueError("Give `version` or `label`, not both.")
        if not self.timeout > 0:
            raise ValueError(f"`timeout` must be above 0 s. Received: {self.timeout}.")
        if self.retries < 0:
            raise ValueError(f"`retries` must be 0 or more. Received: {self.retries}.")
        if self.max_batch_size < 1:
            raise ValueError(
                f"`max_batch_size` must be 1 or more. Received: {self.max_batch_size}."
            )
