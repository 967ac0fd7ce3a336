"""The configuration of TensorFlow Serving: models, batching and monitoring."""

import json
import os
import pathlib

from export.publication.versions import LOCK, flush, is_version, locked
from export.signatures.contract import BATCH_SIZES, MAX_BATCH_SIZE

#: First line of a file that the next export may replace.
MARK = (
    "# Written by mopoe-export at each export; remove this line to keep your changes."
)
METRICS_PATH = "/monitoring/prometheus/metrics"

BATCHING = f"""\
{MARK}
max_batch_size {{ value: {MAX_BATCH_SIZE} }}
# A request waits at most this long for others to share a batch with; under load batches
# are full earlier.
batch_timeout_micros {{ value: 2000 }}
# Batches that run at the same time, of all models: the number of cores of the server.
num_batch_threads {{ value: 4 }}
# If the queue is full the server answers UNAVAILABLE (REST 503), and clients back off;
# a longer queue would only delay requests.
max_enqueued_batches {{ value: 64 }}
# Batches are padded to the next of these; each has its warm-up record in a version.
""" + "".join(f"allowed_batch_sizes: {size}\n" for size in BATCH_SIZES)
MONITORING = f"""\
{MARK}
prometheus_config {{
  enable: true
  path: "{METRICS_PATH}"
}}
"""


def write_server_files(
    serving_dir: str | os.PathLike[str], mount: str = "/models"
) -> list[str]:
    """Writes models.config, batching.config and monitoring.config into `serving_dir`.

    Each is replaced in one step, and only if it differs. Several processes may do this
    at the same time, each after its own export: in the end all models are listed.

    Args:
      serving_dir: Folder of the models' folders. Those with a version are listed.
      mount: Path of `serving_dir` on the server: a folder, or a URL such as
        gs://bucket/models.

    Returns:
      Names of the files that were not written, because the user has removed the first
      line, by which mopoe-export marks its files.

    Raises:
      OSError: If `serving_dir` can't be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = write_server_files(folder)
      ...     sorted(path.name for path in pathlib.Path(folder).iterdir())
      ['batching.config', 'models.config', 'monitoring.config']
    """
    serving_dir = pathlib.Path(serving_dir)
    skipped = []
    with locked(serving_dir / LOCK):
        files = {
            "models.config": _models(serving_dir, mount),
            "batching.config": BATCHING,
            "monitoring.config": MONITORING,
        }
        for name, text in files.items():
            path = serving_dir / name
            before = path.read_bytes() if path.exists() else None
            if before is not None and not before.startswith(MARK.encode()):
                skipped.append(name)
            elif before != text.encode():
                _replace(path, text)
    return skipped


def _models(serving_dir: pathlib.Path, mount: str) -> str:
    entries = []
    for folder in sorted(serving_dir.iterdir()):
        if folder.is_dir() and _has_version(folder):
            path = f"{mount.rstrip('/')}/{folder.name}"
            entries.append(
                "  config {\n"
                f"    name: {json.dumps(folder.name)}\n"
                f"    base_path: {json.dumps(path)}\n"
                '    model_platform: "tensorflow"\n'
                "  }\n"
            )
    return f"{MARK}\nmodel_config_list {{\n{''.join(entries)}}}\n"


def _has_version(folder: pathlib.Path) -> bool:
    # A listed folder without a SavedModel would keep the server from starting.
    return any(
        is_version(path) and (path / "saved_model.pb").is_file()
        for path in folder.iterdir()
    )


def _replace(path: pathlib.Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    flush(new)
    os.replace(new, path)
    flush(path.parent)
