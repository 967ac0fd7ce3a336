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
    locked,
    remove_leftovers,
    replacing,
    to_json,
    write_json,
)
from trainers.runs.checkpoints import MODEL, Checkpoint, Checkpoints, State
from trainers.runs.history import Monitor, write_csv
from trainers.runs.run_settings import check_same_run, to_settings

if TYPE_CHECKING:
    import keras


class RunFolder:
    """Reads and writes the folder of one run."""

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
    def exclusive(self) -> Iterator[None]:
        """Makes the folder and keeps other processes from training in it.

        Raises:
          UsageError: If another process trains there, or the folder can't be written.
        """
        self._make()
        with contextlib.ExitStack() as stack:
            with self._writing():
                success = stack.enter_context(locked(self.path / ".lock"))
            if not success:
                raise UsageError(
                    f"--out: another process is training in {self.path}. Wait for it, "
                    "stop it, or choose another folder."
                )
            yield

    def _make(self) -> None:
        if not str(self.path).strip() or self.path == pathlib.Path():
            raise UsageError("--out: expected a folder for this run alone.")
        with self._writing():
            self.checkpoints.path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"--out: can't write {self.path}: {error.strerror}."
            ) from None

    def prepare(
        self, recipe_name: str, config: TrainConfig, *, write: bool = True
    ) -> None:
        """Makes the folder, or checks that its run may resume with `config`.

        Args:
          recipe_name: Name of the recipe.
          config: Configuration of the recipe.
          write: Whether to write config.json if there is no checkpoint yet.

        Raises:
          UsageError: If the folder can't be written or is of another configuration.
        """
        self._make()
        existing = self.read_settings() if self.config_file.exists() else {}
        if self.checkpoints.paths():
            if not existing:
                raise UsageError(
                    f"--out: {self.path} has checkpoints, but no config.json with "
                    "their settings. Put it back, or choose another folder."
                )
            check_same_run(self.path, existing, recipe_name, config)
        elif write:
            if existing != to_settings(recipe_name, config):
                # The classifiers may have been trained on other data.
                shutil.rmtree(self.classifiers, ignore_errors=True)
            self.write_config(recipe_name, config)

    def write_config(self, recipe_name: str, config: TrainConfig) -> None:
        """Writes config.json.

        Raises:
          UsageError: If the folder can't be written.
        """
        with self._writing():
            write_json(self.config_file, to_settings(recipe_name, config))

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
        """Loads the newest model of the run.

        Raises:
          UsageError: If no epoch has been trained.
          RunError: If the file can't be loaded.
        """
        import keras

        import tf_mopoe  # noqa: F401  (registers its classes with Keras)

        self.check_model()
        try:
            return keras.saving.load_model(self.model_file)
        except (OSError, ValueError, zipfile.BadZipFile):
            raise RunError(
                f"can't load {self.model_file}: it is damaged, or of another version "
                "of the library. `mopoe-train` restores it from its checkpoint."
            ) from None

    def save(self, model: "keras.Model", state: State, monitor: Monitor) -> None:
        """Writes a checkpoint; after a complete epoch also the files for readers.

        Raises:
          RunError: If they can't be written; existing files are kept.
        """
        checkpoint = self.checkpoints.save(model, state)
        try:
            self._publish(checkpoint, monitor)
        except OSError as error:
            raise RunError(
                f"can't write: {error}. {self.checkpoints.describe_newest()}"
            ) from error

    def restore(self, monitor: Monitor, *, write: bool = True) -> Checkpoint | None:
        """Returns the newest intact checkpoint, or None if there are none.

        Args:
          monitor: Monitor that selects the best epoch.
          write: Whether to remove what a killed process left, and to write the files
            that it no longer could.

        Raises:
          RunError: If there are checkpoints, but none is intact.
        """
        checkpoint = self.checkpoints.find()
        if write:
            self.checkpoints.remove_leftovers()
            for file in (self.config_file, self.model_file, self.best_file):
                remove_leftovers(file)
            for file in (self.history_file, self.csv_file):
                remove_leftovers(file)
            if checkpoint:
                self._publish(checkpoint, monitor)
        return checkpoint

    def _publish(self, checkpoint: Checkpoint, monitor: Monitor) -> None:
        """Writes the history; after a complete epoch also its model."""
        state = checkpoint.state
        if not state.epoch:
            return
        targets = []
        if not state.step:
            targets = [self.model_file]
            if monitor.best_epoch(state.history) == state.epoch - 1:
                targets.append(self.best_file)
        source = checkpoint.path / MODEL
        for target in targets:
            if not target.exists() or not filecmp.cmp(source, target, shallow=False):
                with replacing(target) as temporary:
                    shutil.copyfile(source, temporary)
        # The history is written last: if it is up to date, so are the others.
        text = to_json(state.history)
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
