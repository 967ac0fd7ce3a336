"""Loads the model of a run, or a `.keras` file."""

import os
import pathlib
import re
import textwrap
import zipfile
from typing import TYPE_CHECKING

from export.errors import ExportError, UsageError

if TYPE_CHECKING:
    from tf_mopoe.models import MultimodalVAE

#: Name of the model's file in a run's folder.
MODEL_FILE = "model.keras"
#: Characters of Keras's reason that are repeated.
MAX_REASON = 300
#: How Keras and the library name a class or function that is not registered, without
#: its package.
UNKNOWN = re.compile(
    r"(?:Could not locate|can't be rebuilt:) (class|function) '(?:[^'>]*>)?([^']+)'"
    r"|\b([Cc]lass|[Ff]unction) '(?:[^'>]*>)?([^']+)'[^'\n]* not known"
)
#: Advice about a model that the command can't load.
PUBLISH = "in Python, and call export.publication.publish.publish(model, ...) there"
ADVICE = {
    "unknown": f", import it, load the model {PUBLISH}",
    "unsafe": " If you trust it, load it with keras.saving.load_model(..., "
    f"safe_mode=False) {PUBLISH}.",
}


def model_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """The `.keras` file of a run's folder, or the file itself.

    Raises:
      UsageError: If `path` is neither.
    """
    path = pathlib.Path(path)
    if path.is_file():
        if path.suffix == ".keras":
            return path
        raise UsageError(
            f"RUN: {path} is neither a run's folder nor a .keras file. Save the model "
            'with model.save("model.keras").'
        )
    if not path.is_dir():
        raise UsageError(
            f"RUN: {path} does not exist; name a run's folder or a .keras file."
        )
    if not (path / MODEL_FILE).is_file():
        raise UsageError(
            f"RUN: {path} has no {MODEL_FILE}. Train with mopoe-train first, or name "
            "a .keras file."
        )
    return path / MODEL_FILE


def load_run(path: str | os.PathLike[str]) -> "MultimodalVAE":
    """Loads the model of a run's folder or of a `.keras` file, without its optimizer.

    Args:
      path: Folder of a run, or a file written by `model.save("model.keras")`.

    Raises:
      UsageError: If it is neither, or holds another kind of model.
      ExportError: If it can't be loaded.

    Example:
        model = load_run("runs/polydigits")
    """
    file = model_file(path)
    if not zipfile.is_zipfile(file):
        raise ExportError(
            f"can't load {file}: not a zip archive as model.save writes; damaged, or "
            "another kind of file."
        )
    import keras

    from tf_mopoe.models import MultimodalVAE

    try:
        model = keras.saving.load_model(file, compile=False)
    except ExportError:  # raised by a signal
        raise
    except Exception as error:  # whatever the constructors of a file's layers raise
        message = f"can't load {file}: {reason(error, **ADVICE)}"
        raise ExportError(message) from None
    if not isinstance(model, MultimodalVAE):
        raise UsageError(
            f"RUN: {file} holds a {type(model).__name__}; mopoe-export publishes the "
            "models of tf_mopoe, such as MoPoEVAE."
        )
    return model


def reason(error: Exception, *, unknown: str = "", unsafe: str = "") -> str:
    """Keras's reason in one short line, without the configuration.

    Args:
      error: Exception of Keras while it built a model.
      unknown: Advice about a class or function that is not registered.
      unsafe: Advice about a `Lambda` layer that was refused.
    """
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    if match := UNKNOWN.search(text):
        kind, name = (part for part in match.groups() if part)
        register = "Register it with keras.saving.register_keras_serializable"
        return f"{kind.lower()} {name!r} is not known. {register}{unknown}."
    # Keras puts the configuration, which may have 20 kB, before the point.
    text = text.rpartition("Exception encountered: ")[2]
    text = re.sub(r"\x1b\[[0-9;]*m", "", text.partition("Full object config:")[0])
    if "safe_mode=False" in text:
        return f"{'. '.join(text.split('. ')[:2])}.{unsafe}"
    message = textwrap.shorten(text, MAX_REASON, placeholder=" ...")
    return f"Keras says: {message or type(error).__name__}"
