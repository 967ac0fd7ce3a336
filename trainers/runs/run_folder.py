"""The folder of a run: configuration, checkpoints, history, model.

Every file appears under its name only once it is complete.
"""

import contextlib
import filecmp
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError, UsageError
from trainers.runs.atomic_files import (
    as_text,
    locked,
    remove_leftovers,
    replacing,
    write_json,
)
from trainers.runs.checkpoints import MODEL, Checkpoint, Checkpoints, State
from trainers.runs.history import Monitor, write_csv
from trainers.runs.run_settings import check_same_run, settings_of

if TYPE_CHECKING:
    import keras


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        self.config_file = self.path / "config.json"
        self.history_file = self.path / "history.json"
        self.csv_file = self.path / "history.csv"
        self.model_file = self.path / "model.keras"
        self.best_file = self.path / "best.keras"
        self.evaluation_file = self.path / "evaluation.json"
        self.report_file = self.path / "report.html"
        self.figures = self.path / "figures"
        self.classifiers = self.path / "classifiers"
        self.logs = self.path / "logs"
        self.checkpoints = Checkpoints(self.path / "checkpoints")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder, and keeps other processes from training in it meanwhile.

        However the process ends, the lock ends with it.

        Raises:
          UsageError: If another process has it, or the folder can't be written.
        """
        self._make()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock"))
            except BlockingIOError:
                raise UsageError(
                    f"--out: another process is training in {self.path}. Wait for it, "
                    "stop it, or choose another folder."
                ) from None
            except OSError as error:
                raise self._cannot_write(error) from None
            yield

    def _make(self) -> None:
        if not str(self.path).strip() or self.path == pathlib.Path():
            raise UsageError("--out: expected a folder of its own for the run.")
        try:
            self.checkpoints.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> UsageError:
        return UsageError(f"--out: can't write {self.path}: {error.strerror}.")

    def prepare(
        self, recipe_name: str, config: TrainConfig, *, write: bool = True
    ) -> None:
        """Makes the folder, or checks that it is of the same configuration.

        Once there is a checkpoint, only the settings in `run_settings.MAY_CHANGE` may
        differ, and the paths of the files that the run's `data_set` was made of.

        Args:
          recipe_name: Of the recipe.
          config: Its configuration.
          write: Whether the configuration is written where there was none.

        Raises:
          UsageError: If the folder can't be written or is of another configuration.
        """
        self._make()
        asked = settings_of(recipe_name, config)
        there = self.read_settings() if self.config_file.exists() else {}
        if self.checkpoints.paths() and not there:
            raise UsageError(
                f"--out: {self.path} has checkpoints, but no config.json that says of "
                "what settings. Put it back, or choose another folder."
            )
        if self.checkpoints.paths():
            check_same_run(self.path, there, recipe_name, config)
        elif write:
            if there != asked:  # judges of other data
                shutil.rmtree(self.classifiers, ignore_errors=True)
            self.write_config(recipe_name, config)

    def write_config(self, recipe_name: str, config: TrainConfig) -> None:
        """Writes config.json.

        Raises:
          UsageError: If the folder can't be written.
        """
        try:
            write_json(self.config_file, settings_of(recipe_name, config))
        except OSError as error:
            raise self._cannot_write(error) from None

    def read_settings(self) -> dict[str, Any]:
        """Reads config.json: the recipe's name under "recipe", and all settings.

        Raises:
          UsageError: If this is no run folder.
        """
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

    def save(self, model: "keras.Model", state: State, monitor: Monitor) -> None:
        """Writes a checkpoint, and what shows a complete epoch to others.

        Raises:
          RunError: If it can't be written; what was there is kept.
        """
        checkpoint = self.checkpoints.save(model, state)
        try:
            self._publish(checkpoint, monitor)
        except OSError as error:
            raise RunError(
                f"can't write: {error}. {self.checkpoints.kept()}"
            ) from error

    def restore(self, monitor: Monitor, *, write: bool = True) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None where there is none.

        Args:
          monitor: Says which epoch is the best.
          write: Whether to remove what a killed process left, and to write what it no
            longer could.

        Raises:
          RunError: If there are checkpoints, but none is whole.
        """
        checkpoint = self.checkpoints.find()
        if write:
            self._remove_leftovers()
            if checkpoint:
                self._publish(checkpoint, monitor)
        return checkpoint

    def _publish(self, checkpoint: Checkpoint, monitor: Monitor) -> None:
        """Writes the history; after a complete epoch also its model."""
        state = checkpoint.state
        if not state.epoch:
            return
        text = as_text(state.history)
        targets = []
        if not state.step:
            targets = [self.model_file]
            if monitor.best_epoch(state.history) == state.epoch - 1:
                targets.append(self.best_file)
        for target in targets:
            if not _same(checkpoint.path / MODEL, target):
                with replacing(target) as temporary:
                    shutil.copyfile(checkpoint.path / MODEL, temporary)
        # The history is written last: where it is this one, so was the rest.
        if (
            self.csv_file.exists()
            and self.history_file.exists()
            and self.history_file.read_text() == text
        ):
            return
        with replacing(self.csv_file) as temporary:
            write_csv(temporary, state.history)
        with replacing(self.history_file) as temporary:
            temporary.write_text(text)

    def _remove_leftovers(self) -> None:
        self.checkpoints.remove_leftovers()
        files = (self.config_file, self.model_file, self.best_file)
        for file in (*files, self.history_file, self.csv_file):
            remove_leftovers(file)


def _same(file: pathlib.Path, other: pathlib.Path) -> bool:
    return other.exists() and filecmp.cmp(file, other, shallow=False)


def _load_model(path: pathlib.Path) -> "keras.Model":
    import keras

    import tf_mopoe  # noqa: F401  (registers its classes with Keras)

    return keras.saving.load_model(path)
