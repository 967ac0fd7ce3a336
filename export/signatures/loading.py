"""Loads what `mopoe-export` is given: the model of a run, or a `.keras` file."""

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
#: How Keras and the library name a class or function that they do not know, without
#: its package.
UNKNOWN = re.compile(
    r"(?:Could not locate|can't be rebuilt:) (class|function) '(?:[^'>]*>)?([^']+)'"
    r"|\b([Cc]lass|[Ff]unction) '(?:[^'>]*>)?([^']+)'[^'\n]* not known"
)
#: What to do about a model that the command can't load.
PUBLISH = "in Python, and call export.publication.publish.publish(model, ...) there"
REMEDIES = {
    "unknown": f", import it, load the model {PUBLISH}",
    "unsafe": " If you trust it, load it with keras.saving.load_model(..., "
    f"safe_mode=False) {PUBLISH}.",
}


def model_file(path: str | os.PathLike[str]) -> pathlib.Path:
    """The `.keras` file that `path` names.

    Args:
      path: A run's folder, or a file that `model.save("model.keras")` wrote.

    Raises:
      UsageError: If it is neither.
    """
    path = pathlib.Path(path)
    if path.is_file():
        if path.suffix == ".keras":
            return path
        raise UsageError(
            f"RUN: {path} is neither a run's folder nor a .keras file. Save the model "
            'with model.save("model.keras").'
        )
    file = path / MODEL_FILE
    if file.is_file():
        return file
    if path.is_dir():
        raise UsageError(
            f"RUN: {path} has no {MODEL_FILE}. Train with mopoe-train first, or name "
            "a .keras file."
        )
    raise UsageError(
        f"RUN: {path} does not exist; name a run's folder or a .keras file."
    )


def load_run(path: str | os.PathLike[str]) -> "MultimodalVAE":
    """Loads the model of a run's folder or of a `.keras` file.

    The optimizer is left out, so that one of the user's own is no obstacle.

    Args:
      path: A run's folder, or a file that `model.save("model.keras")` wrote.

    Raises:
      UsageError: If it is neither, or holds another kind of model.
      ExportError: If it can't be loaded.
    """
    file = model_file(path)
    if not zipfile.is_zipfile(file):
        raise ExportError(
            f"can't load {file}: it is no zip archive, as model.save writes; damaged, "
            "or another kind of file."
        )
    import keras

    from tf_mopoe.models import MultimodalVAE

    try:
        model = keras.saving.load_model(file, compile=False)
    except ExportError:  # of a signal
        raise
    except Exception as error:  # whatever the constructors of a file's layers raise
        message = f"can't load {file}: {reason(error, **REMEDIES)}"
        raise ExportError(message) from None
    if not isinstance(model, MultimodalVAE):
        raise UsageError(
            f"RUN: {file} holds a {type(model).__name__}; mopoe-export publishes the "
            "models of tf_mopoe, such as MoPoEVAE."
        )
    return model


def reason(error: Exception, *, unknown: str = "", unsafe: str = "") -> str:
    """One short line: what Keras said, without the configuration.

    Args:
      error: What Keras raised while it built a model.
      unknown: What to do where a class or function is not registered.
      unsafe: What to do where a `Lambda` layer was refused.
    """
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    if found := UNKNOWN.search(text):
        kind, name = (part for part in found.groups() if part)
        register = "Register it with keras.saving.register_keras_serializable"
        return f"{kind.lower()} {name!r} is not known. {register}{unknown}."
    # Keras puts the configuration, which may have 20 kB, before the point.
    text = text.rpartition("Exception encountered: ")[2]
    text = re.sub(r"\x1b\[[0-9;]*m", "", text.partition("Full object config:")[0])
    if "safe_mode=False" in text:
        return f"{'. '.join(text.split('. ')[:2])}.{unsafe}"
    said = textwrap.shorten(text, MAX_REASON, placeholder=" ...")
    return f"Keras says: {said or type(error).__name__}"
