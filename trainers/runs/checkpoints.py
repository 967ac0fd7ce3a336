"""Checkpoints: the complete state of a run, for exact resumption.

A checkpoint is a folder, named after the number of steps: model.keras has the weights
and the optimizer, state.json the rest, and SHA256SUMS the checksums of both, in the
format of `sha256sum -c`. It appears under its name once it is completely on disk; only
then are older ones removed.
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
from trainers.runs.history import History

if TYPE_CHECKING:
    import keras

MODEL, STATE, SUMS = "model.keras", "state.json", "SHA256SUMS"
_NAME = re.compile(r"step-(\d+)(-epoch-\d+)?")


class State(NamedTuple):
    """Progress of a training, and the state that model.keras does not hold.

    Attributes:
      epoch: Number of complete epochs.
      step: Number of steps done of the next epoch; if all are, its validation is next.
      steps: Number of steps of an epoch; 0: unknown.
      history: Metrics of the complete epochs.
      metrics: Values of the epoch's running means, by name.
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
        """Number of all steps done."""
        return self.epoch * self.steps + self.step

    def __str__(self) -> str:
        if not self.step:
            return f"epoch {self.epoch}"
        within = f"epoch {self.epoch + 1}, step {self.step} of {self.steps}"
        return f"step {self.total} ({within})"


class Checkpoint(NamedTuple):
    """A checkpoint that is intact."""

    path: pathlib.Path
    state: State


class Checkpoints:
    """The folder of a run's checkpoints.

    Attributes:
      newest: Path of the checkpoint last written, or last found intact, or None.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.newest: pathlib.Path | None = None

    def paths(self) -> list[pathlib.Path]:
        """Paths of all checkpoints, from the oldest to the newest."""
        paths = [p for p in self.path.glob("step-*") if _NAME.fullmatch(p.name)]
        return sorted(paths, key=_age)

    def remove_leftovers(self) -> None:
        """Removes what processes that were killed while they saved left."""
        for path in self.path.glob(".step-*"):
            if _NAME.fullmatch(path.name[1:]):
                shutil.rmtree(path)

    def save(self, model: "keras.Model", state: State) -> Checkpoint:
        """Writes a checkpoint, then removes all but this one and the one before.

        Raises:
          RunError: If it can't be written; the earlier ones are unchanged.
        """
        end = "" if state.step else f"-epoch-{state.epoch:05d}"
        final = self.path / f"step-{state.total:08d}{end}"
        temporary = self.path / f".{final.name}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            _write(temporary, model, state)
            if final.exists():  # it was damaged, and its steps were repeated
                shutil.rmtree(final)
            os.rename(temporary, final)
            synchronize(self.path)
        except (OSError, RuntimeError, ValueError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            cause = root_cause(error)
            message = f"can't write a checkpoint after {state}: {cause}."
            raise RunError(f"{message} {self.describe_newest()}") from cause
        self.newest = final
        previous = [path for path in self.paths() if _age(path) < _age(final)]
        for path in self.paths():
            if path not in (final, *previous[-1:]):
                shutil.rmtree(path)
        return Checkpoint(final, state)

    def find(self) -> Checkpoint | None:
        """Returns the newest intact checkpoint and reports damaged ones.

        Raises:
          RunError: If there are checkpoints, but none is intact.
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
            if damaged:
                lost = _age(self.paths()[-1])[0] - state.total
                print(f"Resuming after {state}: {lost} steps lost.", file=sys.stderr)
            self.newest = path
            return Checkpoint(path, state)
        if damaged:
            raise RunError(
                f"no checkpoint can be read. {' '.join(damaged)} Train in another "
                "folder."
            )
        return None

    def describe_newest(self) -> str:
        """Says which checkpoint training would resume from, for error messages."""
        if self.newest is None:
            return "There is no checkpoint yet."
        return f"The checkpoint {self.newest} is kept."


def _write(folder: pathlib.Path, model: "keras.Model", state: State) -> None:
    model.save(folder / MODEL)
    (folder / STATE).write_text(json.dumps(state._asdict(), allow_nan=False))
    sums = [f"{_checksum(folder / name)}  {name}\n" for name in (MODEL, STATE)]
    (folder / SUMS).write_text("".join(sums))
    for path in (*folder.iterdir(), folder):
        synchronize(path)


def _read(path: pathlib.Path) -> State:
    """Raises a ValueError, or an error of the files, if the checkpoint is damaged."""
    sums = dict(line.split()[::-1] for line in (path / SUMS).read_text().splitlines())
    for name in (MODEL, STATE):
        if sums.get(name) != _checksum(path / name):
            raise ValueError(f"the checksum of {name} is wrong")
    return State(**json.loads((path / STATE).read_text()))


def _age(path: pathlib.Path) -> tuple[int, bool]:
    """Number of steps, and whether it is the end of an epoch: sorts by age."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is no checkpoint.")
    return int(match[1]), bool(match[2])


def _checksum(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def root_cause(error: BaseException) -> BaseException:
    """Returns the first OSError of a chain of errors, or the error itself.

    Closing a zip file hides it behind another one, and Keras removes `__cause__`.
    """
    chain: list[BaseException] = [error]
    while (context := chain[-1].__context__) is not None:
        chain.append(context)
    return next((e for e in reversed(chain) if isinstance(e, OSError)), error)
