"""The folder of a study: its trials, shared by processes that may die at any moment.

`study.log` is Optuna's journal. A process holds a lock on the file of its trial in
`locks/`; the system frees it when the process ends, however it does. So a trial that is
running and not locked is one whose process died, and the next one takes it up again.
"""

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.storages import journal
from optuna.trial import Trial, TrialState

from trainers.errors import RunError, UsageError
from trainers.runs.atomic_files import write_json
from trainers.tuning.search_space import Space

#: In the journal, which could hold several.
NAME = "study"
#: How often a trial is taken up again in one epoch, should it kill its processes.
MAX_STARTS = 10
#: What is said of a trial besides: the epoch of its value, or why it failed.
NOTES = ("epoch", "reason")


class StudyFolder:
    """Reads and writes one study's folder.

    Attributes:
      study: Optuna's.
      summary_file: study.json: what was asked for, and every trial.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        asked: Mapping[str, Any],
        space: Space,
        *,
        larger: bool,
        seed: int,
        warmup_epochs: int,
    ):
        """Opens the study, or makes it.

        Args:
          path: The folder.
          asked: What must not differ, as JSON has it: of a study that is there, too.
          space: Distributions of the parameters.
          larger: Whether the larger value is the better.
          seed: Of the proposals.
          warmup_epochs: Epochs before a trial may be pruned.

        Raises:
          UsageError: If the folder can't be written or is of another study.
          RunError: If its journal is damaged.
        """
        self.path = pathlib.Path(path)
        if not str(path).strip() or self.path == pathlib.Path():
            raise UsageError("--out: expected a folder of its own for the study.")
        self.space, self.seed, self.asked = space, seed, dict(asked)
        self.summary_file = self.path / "study.json"
        try:
            for folder in ("trials", "locks"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            with self._alone():
                storage = _storage(self.path / "study.log")
                if not storage.get_all_studies():
                    optuna.create_study(
                        storage=storage,
                        study_name=NAME,
                        direction="maximize" if larger else "minimize",
                    )
                self.study = optuna.load_study(
                    study_name=NAME,
                    storage=storage,
                    pruner=optuna.pruners.MedianPruner(n_warmup_steps=warmup_epochs),
                )
                self._check()
        except ValueError as error:  # JSON's, Optuna's
            raise RunError(f"{self.path / 'study.log'} is damaged: {error}") from None
        except OSError as error:
            raise UsageError(
                f"--out: can't write {self.path}: {error.strerror}."
            ) from None

    def _check(self) -> None:
        there = self.study.user_attrs.get("asked")
        if there is None:
            self.study.set_user_attr("asked", self.asked)
            return
        for field in sorted(there.keys() | self.asked.keys()):
            if there.get(field) != self.asked.get(field):
                raise UsageError(
                    f"--out: {self.path} is a study with {field}="
                    f"{there.get(field)!r}, not {self.asked.get(field)!r}. Choose "
                    "another folder, or the settings of this one."
                )

    @contextlib.contextmanager
    def claimed_trial(self, total: int) -> Iterator[Trial | None]:
        """A trial that is this process's until the end of the `with`.

        One that a dead process left, or a new one if there are fewer than `total`.
        None if all trials are finished, or other processes are at them.
        """
        with contextlib.ExitStack() as stack:
            with self._alone():
                trial = self._claim(total, stack)
            yield trial

    def _claim(self, total: int, stack: contextlib.ExitStack) -> Trial | None:
        trials = self.study.get_trials(deepcopy=False)
        for left in trials:
            if left.state != TrialState.RUNNING or not stack.enter_context(
                _locked(self._lock(left.number), wait=False)
            ):
                continue
            self.study.sampler = self._sampler(left.number)
            trial = Trial(self.study, left._trial_id)
            starts = f"starts in epoch {len(left.intermediate_values) + 1}"
            count = left.user_attrs.get(starts, 0)
            if count < MAX_STARTS:
                trial.set_user_attr(starts, count + 1)
                return self._drawn(trial)
            reason = f"its process was killed {count} times within an epoch"
            self._tell(trial, state=TrialState.FAIL, reason=reason)
        if len(trials) >= total:
            return None
        number = len(trials)
        stack.enter_context(_locked(self._lock(number)))  # before it can be seen
        self.study.sampler = self._sampler(number)
        return self._drawn(self.study.ask())

    def _drawn(self, trial: Trial) -> Trial:
        """Draws the parameters that have not been drawn."""
        for name, spec in self.space.items():
            if isinstance(spec, optuna.distributions.FloatDistribution):
                trial.suggest_float(name, spec.low, spec.high, log=spec.log)
            elif isinstance(spec, optuna.distributions.IntDistribution):
                trial.suggest_int(name, spec.low, spec.high, log=spec.log)
            elif isinstance(spec, optuna.distributions.CategoricalDistribution):
                trial.suggest_categorical(name, spec.choices)
        return trial

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """Of one trial: what it proposes depends on the seed and the trials before.

        Not on the process, which may be the second one of the study.
        """
        seed = np.random.SeedSequence([self.seed, number]).generate_state(1)
        return optuna.samplers.TPESampler(seed=int(seed[0]))

    def tell(
        self,
        trial: Trial,
        value: float | None = None,
        *,
        state: TrialState = TrialState.COMPLETE,
        **notes: Any,
    ) -> None:
        """Finishes a trial, and writes study.json.

        Args:
          trial: As claimed.
          value: Of a complete one.
          state: Complete, pruned or failed.
          **notes: What study.json says of it besides.
        """
        with self._alone():
            self._tell(trial, value, state=state, **notes)

    def _tell(
        self, trial: Trial, value: float | None = None, *, state, **notes
    ) -> None:
        for name, note in notes.items():
            trial.set_user_attr(name, note)
        self.study.tell(trial, value, state=state)
        trials = self.all_trials()
        write_json(self.summary_file, {"study": self.asked, "trials": trials})

    def all_trials(self) -> list[dict[str, Any]]:
        """What study.json says of each trial."""
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "parameters": trial.params,
                "run": str(self.run_folder(trial.number).relative_to(self.path)),
                **{note: trial.user_attrs.get(note) for note in NOTES},
            }
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def run_folder(self, number: int) -> pathlib.Path:
        """Where a trial is trained."""
        return self.path / "trials" / f"{number:05d}"

    def _lock(self, number: int) -> pathlib.Path:
        return self.path / "locks" / f"{number:05d}"

    def _alone(self) -> contextlib.AbstractContextManager[bool]:
        """No other process claims or finishes a trial meanwhile."""
        return _locked(self.path / "locks" / "study")


@contextlib.contextmanager
def _locked(path: pathlib.Path, *, wait: bool = True) -> Iterator[bool]:
    """Locks a file if it is free, or waits until it is; yields whether it is locked."""
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            locked = True
        except BlockingIOError:
            locked = False
        yield locked  # closing the file frees it


def _storage(path: pathlib.Path) -> optuna.storages.BaseStorage:
    """Optuna's journal, mended if a full disk or a fall of the machine cut its end."""
    lock = journal.JournalFileOpenLock(str(path))
    backend = journal.JournalFileBackend(str(path), lock_obj=lock)
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
    finally:
        lock.release()
    return journal.JournalStorage(backend)
