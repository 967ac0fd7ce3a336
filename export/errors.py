"""What can go wrong in an export, and how the command says so."""


class UsageError(Exception):
    """Wrong usage: one line that names the argument; exit code 2."""


class ExportError(Exception):
    """The export failed; exit code 1."""
