"""Checkpoints: all that a run needs to go on as if it had not stopped.

A checkpoint is a folder, named after the steps done: model.keras has the weights and
the optimizer, state.json the rest, SHA256SUMS the sums of both, as `sha256sum -c` reads
them. It appears under its name once all of it is on disk; only then older ones go.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import zipfile
from typing import TYPE_CHECKING, NamedTuple

from trainers.errors import RunError
from trainers.runs.atomic_files import synchronize
from trainers.runs.history import History, num_epochs

if TYPE_CHECKING:
    import keras

MODEL, STATE, SUMS = "model.keras", "state.json", "SHA256SUMS"
#: `epoch-...` are those of an earlier layout, with history.json and without sums.
_NAME = re.compile(r"epoch-(?P<old>\d+)|step-(?P<step>\d+)(?P<end>-epoch-\d+)?")


class State(NamedTuple):
    """Where training stands, and what model.keras does not hold.

    Attributes:
      epoch: Number of complete epochs.
      step: Steps done of the next one; if all are, its validation comes next.
      steps: Steps of an epoch; 0: not known.
      history: Of the complete epochs.
      metrics: Name to values of the variables of the epoch's running means.
      seeds: States of the random generators of layers, such as `Dropout`.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    history: History = {}
    metrics: dict[str, list[float]] = {}
    seeds: list[list[int]] = []

    @property
    def total(self) -> int:
        """All steps done."""
        return self.epoch * self.steps + self.step

    def __str__(self) -> str:
        if not self.step:
            return f"epoch {self.epoch}"
        where = f"epoch {self.epoch + 1}, step {self.step} of {self.steps}"
        return f"step {self.total} ({where})"


class Checkpoint(NamedTuple):
    """One that was found whole."""

    path: pathlib.Path
    state: State


class Checkpoints:
    """The folder of a run's checkpoints.

    Attributes:
      newest: The one that was written, or found whole, last; None.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.newest: pathlib.Path | None = None

    def paths(self) -> list[pathlib.Path]:
        """From the oldest to the newest."""
        found = self.path.glob("*-*")
        return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_age)

    def remove_leftovers(self) -> None:
        """Of a process that was killed while it wrote."""
        for path in self.path.glob(".*-*"):
            if _NAME.fullmatch(path.name[1:]):
                shutil.rmtree(path)

    def save(self, model: "keras.Model", state: State) -> Checkpoint:
        """Writes a checkpoint, and then removes all but the one before.

        Raises:
          RunError: If it can't be written; those before are as they were.
        """
        end = "" if state.step else f"-epoch-{state.epoch:05d}"
        final = self.path / f"step-{state.total:08d}{end}"
        temporary = self.path / f".{final.name}"
        failure = None
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            _write(temporary, model, state)
            if final.exists():  # found damaged: its steps were done again
                shutil.rmtree(final)
            os.rename(temporary, final)
            synchronize(self.path)
        except (OSError, RuntimeError, ValueError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            failure = _cause(error)
        if failure is not None:
            message = f"can't write a checkpoint after {state}: {failure}."
            stop = RunError(f"{message} {self.kept()}")
            stop.__context__ = failure  # not what closing a zip file has made of it
            raise stop
        self.newest = final
        before = [path for path in self.paths() if _age(path) < _age(final)]
        for path in self.paths():
            if path not in (final, *before[-1:]):
                shutil.rmtree(path)
        return Checkpoint(final, state)

    def find(self) -> Checkpoint | None:
        """The newest that is whole; says which are not. None if there are none at all.

        Raises:
          RunError: If there are some, and none is whole.
        """
        damaged = []
        for path in reversed(self.paths()):
            try:
                state = _read(path)
            except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
                damaged.append(f"{path} is damaged: {error}.")
                continue
            for line in damaged:
                print(line, file=sys.stderr)
            if damaged and state.steps:
                lost = _age(self.paths()[-1])[1] - state.total
                print(f"Going on after {state}: {lost} steps lost.", file=sys.stderr)
            self.newest = path
            return Checkpoint(path, state)
        if damaged:
            raise RunError(
                f"no checkpoint can be read. {' '.join(damaged)} Train in another "
                "folder."
            )
        return None

    def kept(self) -> str:
        """What the same command would go on from, for messages of failures."""
        if self.newest is None:
            return "There is no checkpoint yet."
        return f"The checkpoint {self.newest} is kept."


def _write(folder: pathlib.Path, model: "keras.Model", state: State) -> None:
    model.save(folder / MODEL)
    (folder / STATE).write_text(json.dumps(state._asdict(), allow_nan=False))
    sums = [f"{_sum(folder / name)}  {name}\n" for name in (MODEL, STATE)]
    (folder / SUMS).write_text("".join(sums))
    for path in (*folder.iterdir(), folder):
        synchronize(path)


def _read(path: pathlib.Path) -> State:
    """Raises a ValueError, or what the files raise, if it is not whole."""
    if path.name.startswith("epoch-"):
        history = json.loads((path / "history.json").read_text())
        with zipfile.ZipFile(path / MODEL) as archive:
            if archive.testzip() is not None:
                raise ValueError(f"{MODEL} is not what was written")
        return State(num_epochs(history), history=history)
    sums = dict(line.split()[::-1] for line in (path / SUMS).read_text().splitlines())
    for name in (MODEL, STATE):
        if sums.get(name) != _sum(path / name):
            raise ValueError(f"{name} is not what was written")
    return State(**json.loads((path / STATE).read_text()))


def _age(path: pathlib.Path) -> tuple[bool, int, bool]:
    """Sorts from the oldest to the newest; the second is the number of steps."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path} is no checkpoint.")
    if found["old"]:
        return False, int(found["old"]), True
    return True, int(found["step"]), bool(found["end"])


def _sum(path: pathlib.Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def _cause(error: Exception) -> BaseException:
    """The file's own error, which closing a zip file hides behind another one."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__context__) is not None:
        chain.append(before)
    return next((e for e in reversed(chain) if isinstance(e, OSError)), error)
