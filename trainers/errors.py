"""Errors that commands report in one line, and their exit codes."""

import sys
from collections.abc import Callable, Iterable

#: Exit code of a command that a signal stopped: EX_TEMPFAIL, try again.
STOPPED = 75


class UsageError(Exception):
    """Wrong usage or configuration: one line that names the field; exit code 2."""


class RunError(Exception):
    """A failure while running, with a message for the user; exit code 1."""


class Stopped(BaseException):
    """A signal stopped the command, which can be resumed; exit code `STOPPED`.

    Not an `Exception`, so that no handler of failures catches it.
    """


def run_command(
    program: str,
    command: Callable[[], None],
    *,
    interrupted: str = "stopped; run the same command again to resume.",
) -> int:
    """Runs a command and turns its errors into one line and an exit code.

    Args:
      program: Name of the program, which begins the line.
      command: Function to run.
      interrupted: Message after a KeyboardInterrupt.

    Returns:
      0 done, 2 wrong usage or configuration, 1 a failure while running, 75 stopped by
      a signal and resumable.
    """
    try:
        command()
    except UsageError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except (RunError, OSError) as error:
        print(f"{program}: failed: {error}", file=sys.stderr)
        return 1
    except Stopped as error:
        print(f"\n{program}: {error}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print(f"\n{program}: {interrupted}", file=sys.stderr)
        return 1
    return 0


def one_of(valid: Iterable[str], name: str) -> str:
    """Lists the valid names, after `"Did you mean 'x'? "` if one is similar."""
    import difflib

    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Valid: {', '.join(valid)}."
