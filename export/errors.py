"""The errors of an export, and the exit codes that they lead to."""


class UsageError(Exception):
    """Wrong usage, in one line that names the argument; exit code 2.

    Example: `UsageError("RUN: runs/a does not exist.")`
    """


class ExportError(Exception):
    """A failed export; exit code 1.

    Example: `ExportError("verification failed: signature 'encode' is missing")`
    """
