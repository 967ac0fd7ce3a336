"""Runs the checks of a version in a separate process."""

import os
import pathlib
import subprocess
import sys

from export.errors import ExportError

#: Packages that the process cannot import, so that the SavedModel stands alone.
FOREIGN = ("keras", "tf_keras", "tensorflow_probability", "tf_mopoe", "trainers")
CHECK = f"""
import sys
sys.path.insert(0, sys.argv[1])
sys.modules.update(dict.fromkeys({FOREIGN}))
from export.verification.session_check import main
sys.exit(main(sys.argv[2]))
"""


def verify(folder: str | os.PathLike[str]) -> str:
    """Checks a version in a process that cannot import Keras or the library.

    Args:
      folder: Folder of the version.

    Returns:
      A summary of the checks.

    Raises:
      ExportError: If a check fails; the message says which.

    Example:
        verify("serving/polydigits/1")  # "5 signatures, ... requests answered ..."
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    parent = pathlib.Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", CHECK, str(parent), str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    output = result.stdout.strip().splitlines()
    if result.returncode != 0 or not output:
        reason = (output or result.stderr.strip().splitlines() or ["no answer"])[-1]
        raise ExportError(f"verification failed: {reason}")
    return output[-1]
