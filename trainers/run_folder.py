"""The folder of a run: configuration, checkpoints, history, model.

Every file appears under its name only once it is complete. A checkpoint is a folder
with the model, its optimizer and the history up to that epoch.
"""

import contextlib
import json
import os
import pathlib
import shutil
import sys
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from trainers.config import TrainConfig, make_config
from trainers.errors import RunError, UsageError
from trainers.recipe import Recipe
from trainers.recipes import get_recipe

if TYPE_CHECKING:
    import keras

History = dict[str, list[float]]

#: Settings that may be others when a run goes on.
MAY_CHANGE = (
    "epochs",
    "data_dir",
    "evaluate_every",
    "execution",
    "strategy",
    "devices",
    "tpu",
    "threads",
    "checkpoint_steps",
    "checkpoint_minutes",
    "monitor",
    "monitor_mode",
    "patience",
    "tensorboard_graph",
    "wandb",
    "mlflow",
)


class Restored(NamedTuple):
    """A checkpoint: the model with its optimizer, and the metrics of its epochs."""

    model: "keras.Model"
    history: History


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes JSON so that the file is either the old one or the new one."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path that takes the place of `path` if all goes well."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self.config_file = self.path / "config.json"
        self.history_file = self.path / "history.json"
        self.model_file = self.path / "model.keras"
        self.evaluation_file = self.path / "evaluation.json"
        self.report_file = self.path / "report.html"
        self.figures = self.path / "figures"
        self.classifiers = self.path / "classifiers"
        self.logs = self.path / "logs"
        self.checkpoints = self.path / "checkpoints"

    def prepare(self, recipe_name: str, config: TrainConfig) -> None:
        """Makes the folder, or checks that it is of the same configuration.

        Once an epoch is complete, only what `MAY_CHANGE` names may differ, and the
        paths of what the run's `data_set` was made of.

        Raises:
          UsageError: If the folder can't be written or is of another configuration.
        """
        if not str(self.path).strip() or self.path == pathlib.Path():
            raise UsageError("--out: expected a folder of its own for the run.")
        asked = _as_json(recipe_name, config)
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--out: can't write {self.path}: {error.strerror}."
            ) from None
        there = self._read_config() if self.config_file.exists() else {}
        if there and self._checkpoints():
            # A run of an earlier version has the defaults of settings added since.
            defaults = _as_json(recipe_name, make_config(type(config), {}))
            there = {**defaults, **there}
            may_change = {*MAY_CHANGE, *_sources(config)}
            for field in sorted((asked.keys() | there.keys()) - may_change):
                if asked.get(field) != there.get(field):
                    raise UsageError(
                        f"--out: {self.path} is a run with {field}="
                        f"{there.get(field)!r}, not {asked.get(field)!r}. Choose "
                        "another folder, or the settings of this one."
                    )
        else:
            if there != asked:  # judges of other data
                shutil.rmtree(self.classifiers, ignore_errors=True)
            self.write_config(recipe_name, config)

    def write_config(self, recipe_name: str, config: TrainConfig) -> None:
        """Writes config.json.

        Raises:
          UsageError: If the folder can't be written.
        """
        try:
            write_json(self.config_file, _as_json(recipe_name, config))
        except OSError as error:
            raise UsageError(
                f"--out: can't write {self.path}: {error.strerror}."
            ) from None

    def load_config(self) -> tuple[Recipe, TrainConfig]:
        """The run's recipe and configuration.

        Raises:
          UsageError: If this is no run folder.
        """
        values = self._read_config()
        recipe = get_recipe(str(values.pop("recipe", "")))
        return recipe, make_config(recipe.config_class, values)

    def _read_config(self) -> dict[str, Any]:
        try:
            values = json.loads(self.config_file.read_text())
        except FileNotFoundError:
            raise UsageError(
                f"{self.path} is no run folder: it has no config.json. Train one with "
                "`mopoe-train RECIPE --out RUN`."
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(f"can't read {self.config_file}: {error}") from None
        if not isinstance(values, dict):
            raise UsageError(f"can't read {self.config_file}: it holds no settings.")
        return values

    def check_model(self) -> None:
        """Raises a UsageError if no epoch has been trained."""
        if not self.model_file.exists():
            raise UsageError(
                f"{self.path} has no model yet: `mopoe-train` must complete an epoch."
            )

    def load_model(self) -> "keras.Model":
        """The newest model of the run.

        Raises:
          UsageError: If no epoch has been trained.
          RunError: If the file can't be loaded.
        """
        self.check_model()
        try:
            return _load_model(self.model_file)
        except (OSError, ValueError, zipfile.BadZipFile):
            raise RunError(
                f"can't load {self.model_file}: it is damaged, or of another version "
                "of the library. `mopoe-train` restores it from its checkpoint."
            ) from None

    def save_checkpoint(self, model: "keras.Model", history: History) -> None:
        """Writes a checkpoint, then `model.keras` and `history.json` from it."""
        epoch = len(history["loss"])
        final = self.checkpoints / f"epoch-{epoch:05d}"
        temporary = self.checkpoints / f".{final.name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        model.save(temporary / "model.keras")
        write_json(temporary / "history.json", history)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(temporary, final)
        self._publish(final)
        for old in self._checkpoints()[:-2]:
            shutil.rmtree(old)

    def _publish(self, checkpoint: pathlib.Path) -> None:
        history = (checkpoint / self.history_file.name).read_text()
        # The history is copied last: where it is this one, so was the model.
        size = (checkpoint / self.model_file.name).stat().st_size
        if (
            self.history_file.exists()
            and self.history_file.read_text() == history
            and self.model_file.exists()
            and self.model_file.stat().st_size == size
        ):
            return
        for target in (self.model_file, self.history_file):
            with replacing(target) as temporary:
                shutil.copyfile(checkpoint / target.name, temporary)

    def restore(self) -> "Restored | None":
        """The newest checkpoint that can be read, or None where there is none.

        Raises:
          RunError: If there are checkpoints, but none can be read.
        """
        found = self._checkpoints()
        for checkpoint in reversed(found):
            try:
                history = json.loads((checkpoint / "history.json").read_text())
                model = _load_model(checkpoint / "model.keras")
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                print(f"Can't read {checkpoint}: {error}", file=sys.stderr)
                continue
            self._publish(checkpoint)
            return Restored(model, history)
        if found:
            raise RunError(f"no checkpoint in {self.checkpoints} can be read")
        return None

    def _checkpoints(self) -> list[pathlib.Path]:
        return sorted(self.checkpoints.glob("epoch-*"))


def _sources(config: TrainConfig) -> list[str]:
    """Settings that are paths: `data_set` says what was found there."""
    named = bool(getattr(config, "data_set", None))
    return [name for name, x in config if named and isinstance(x, pathlib.Path | None)]


def _as_json(recipe_name: str, config: TrainConfig) -> dict[str, Any]:
    return {"recipe": recipe_name, **config.model_dump(mode="json")}


def _load_model(path: pathlib.Path) -> "keras.Model":
    import keras

    import tf_mopoe  # noqa: F401  (registers its classes with Keras)

    return keras.saving.load_model(path)
