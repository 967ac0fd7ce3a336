"""Writes a SavedModel, verifies it, and only then gives it its version number."""

import logging
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import keras

from export.errors import ExportError, UsageError
from export.publication.server_config import write_server_files
from export.publication.versions import release, staged
from export.publication.warmup import write_warmup
from export.signatures.contract import NUM_SAMPLES
from export.signatures.serving_model import serving_model
from export.signatures.signatures import Signature, make_signatures
from export.signatures.whole_numbers import check_whole
from export.verification.examples import write_examples
from export.verification.verify import verify
from tf_mopoe.models import MultimodalVAE


def publish(
    model: MultimodalVAE,
    serving_dir: str | os.PathLike[str],
    *,
    keep: int | None = None,
    image_bytes: Sequence[str] = (),
    text_strings: Sequence[str] = (),
    num_samples: int = NUM_SAMPLES,
) -> pathlib.Path:
    """Exports to SERVING_DIR/<model name>/<version>/, verified before it appears.

    The version is one more than the highest in the folder. Until it is complete and
    verified, it lies in a folder whose name starts with a dot, which servers ignore.
    Several exporters may publish at the same time. The server's configuration files in
    SERVING_DIR are updated; see `export.publication.server_config`.

    Args:
      model: The model; call this outside of a strategy's scope.
      serving_dir: Folder in which TensorFlow Serving finds its models.
      keep: Number of newest versions to keep, at least 1; None for all.
      image_bytes, text_strings, num_samples: See `make_signatures`.

    Returns:
      The version's folder.

    Raises:
      TypeError, ValueError: If `model`, `keep` or `num_samples` is invalid.
      UsageError: If another argument is invalid, or the folder can't be written.
      ExportError: If the verification fails, and nothing is left behind; or if older
        versions can't be deleted or the server's files not be written, and the
        message says that the version was published.

    Example:
        publish(model, "serving", keep=3, image_bytes=["photo"])  # serving/model/1
    """
    if keep is not None:
        keep = check_whole("keep", keep, minimum=1)
    model = serving_model(model)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", model.name):
        raise UsageError(
            "the model's name becomes a folder and part of URLs: it must be letters, "
            "digits, '_', '.' and '-', starting with a letter or digit. Received: "
            f"{model.name!r}. Give the model another `name`."
        )
    signatures = make_signatures(
        model,
        image_bytes=image_bytes,
        text_strings=text_strings,
        num_samples=num_samples,
    )
    base = pathlib.Path(serving_dir, model.name)
    try:
        with staged(base) as folder:
            functions = write_saved_model(model, signatures, folder)
            write_examples(model, signatures, functions, folder)
            write_warmup(model, signatures, folder)
            verify(folder)
            version = release(folder, base, keep)
    except OSError as error:
        raise UsageError(
            f"SERVING_DIR: can't write {base}: {error.strerror or error}."
        ) from error
    try:
        skipped = write_server_files(serving_dir)
    except OSError as error:
        file = error.filename or "the server's files"
        raise ExportError(
            f"published {version}, but can't write {file}: {error.strerror or error}. "
            "Fix that before exporting again."
        ) from error
    if skipped:
        logging.getLogger(__name__).warning(
            "not updated, since you changed them: %s in %s",
            ", ".join(skipped),
            serving_dir,
        )
    return version


def write_saved_model(
    model: MultimodalVAE, signatures: Mapping[str, Signature], folder: pathlib.Path
) -> dict[str, Callable]:
    """Writes the SavedModel with these signatures into `folder`.

    Returns:
      Signature name to its traced function, of the live model.

    Example:
        write_saved_model(model, make_signatures(model), pathlib.Path("version"))
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    functions = {
        name: archive.add_endpoint(
            name, signature.function, input_signature=[signature.inputs]
        )
        for name, signature in signatures.items()
    }
    archive.write_out(folder, verbose=False)
    return functions
