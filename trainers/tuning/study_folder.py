"""The folder of a study: its trials, shared by processes that may die at any moment.

`study.log` is Optuna's journal. A process holds a lock on the file of its trial in
`locks/`; the system releases it when the process ends, however it does. So a trial that
is running and not locked is one whose process died, and the next process resumes it.
Optuna's heartbeats and retry callbacks need a database server for several hosts, wait
for a grace period, and begin a new trial instead of resuming the old one.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.storages import journal
from optuna.trial import Trial, TrialState

from trainers.errors import RunError, UsageError
from trainers.runs.atomic_files import locked, write_json
from trainers.runs.run_settings import check_equal
from trainers.tuning.search_space import Space

#: Name of the study in the journal, which could hold several.
NAME = "study"
#: Maximum number of starts of a trial within one epoch, in case it kills its processes.
MAX_STARTS = 10


class StudyFolder:
    """Reads and writes the folder of one study.

    Attributes:
      study: Optuna's study.
      summary_file: Path of study.json: the settings, and every trial.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        space: Space,
        *,
        maximize: bool,
        seed: int,
        warmup_epochs: int,
    ):
        """Opens the study, or makes it.

        Args:
          path: Path of the folder.
          settings: Settings, as JSON holds them, which must equal those of an existing
            study.
          space: Distributions of the parameters.
          maximize: Whether larger values are better.
          seed: Seed of the proposals.
          warmup_epochs: Number of epochs before a trial may be pruned.

        Raises:
          UsageError: If the folder can't be written or is of another study.
          RunError: If its journal is damaged.
        """
        self.path = pathlib.Path(path)
        if not str(path).strip() or self.path == pathlib.Path():
            raise UsageError("--out: expected a folder for this study alone.")
        self.space, self.seed, self.settings = space, seed, dict(settings)
        self.summary_file = self.path / "study.json"
        try:
            for folder in ("trials", "locks"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            with self._exclusive():
                storage = _open_storage(self.path / "study.log")
                if not storage.get_all_studies():
                    optuna.create_study(
                        storage=storage,
                        study_name=NAME,
                        direction="maximize" if maximize else "minimize",
                    )
                pruner = optuna.pruners.MedianPruner(n_warmup_steps=warmup_epochs)
                self.study = optuna.load_study(
                    study_name=NAME, storage=storage, pruner=pruner
                )
                existing = self.study.user_attrs.get("settings")
                if existing is None:
                    self.study.set_user_attr("settings", self.settings)
                else:
                    check_equal(f"{self.path} is a study", existing, self.settings)
        except ValueError as error:  # JSON's, Optuna's
            raise RunError(f"{self.path / 'study.log'} is damaged: {error}") from None
        except OSError as error:
            raise UsageError(
                f"--out: can't write {self.path}: {error.strerror}."
            ) from None

    @contextlib.contextmanager
    def claimed_trial(self, total: int) -> Iterator[Trial | None]:
        """Yields a trial that belongs to this process until the end of the `with`.

        It is one that a dead process left, or a new one if there are fewer than
        `total`; None if all trials are finished or belong to other processes.
        """
        with contextlib.ExitStack() as stack:
            with self._exclusive():
                trial = self._claim(total, stack)
            yield trial

    def _claim(self, total: int, stack: contextlib.ExitStack) -> Trial | None:
        trials = self.study.get_trials(deepcopy=False)
        for unfinished in trials:
            number = unfinished.number
            if unfinished.state != TrialState.RUNNING or not self._lock(number, stack):
                continue
            self.study.sampler = self._sampler(number)
            trial = Trial(self.study, unfinished._trial_id)
            starts = f"starts in epoch {len(unfinished.intermediate_values) + 1}"
            count = unfinished.user_attrs.get(starts, 0)
            if count < MAX_STARTS:
                trial.set_user_attr(starts, count + 1)
                return self._suggest(trial)
            reason = f"its process was killed {count} times within an epoch"
            self._tell(trial, state=TrialState.FAIL, reason=reason)
        if len(trials) >= total:
            return None
        self._lock(len(trials), stack)  # before other processes can see the trial
        self.study.sampler = self._sampler(len(trials))
        return self._suggest(self.study.ask())

    def _suggest(self, trial: Trial) -> Trial:
        """Draws the parameters that have not been drawn."""
        for name, spec in self.space.items():
            trial._suggest(name, spec)
        return trial

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """A sampler for one trial: proposals depend on the seed and earlier trials.

        They do not depend on the process, which may be the second one of the study.
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
          trial: Claimed trial.
          value: Value of a complete trial.
          state: Final state: complete, pruned or failed.
          **notes: What study.json holds besides: the value's `epoch`, or the `reason`
            of a failure.
        """
        with self._exclusive():
            self._tell(trial, value, state=state, **notes)

    def _tell(
        self, trial: Trial, value: float | None = None, *, state, **notes
    ) -> None:
        for name, note in notes.items():
            trial.set_user_attr(name, note)
        self.study.tell(trial, value, state=state)
        trials = self.all_trials()
        write_json(self.summary_file, {"study": self.settings, "trials": trials})

    def all_trials(self) -> list[dict[str, Any]]:
        """Describes each trial as study.json does."""
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "parameters": trial.params,
                "run": str(self.run_folder(trial.number).relative_to(self.path)),
                "epoch": trial.user_attrs.get("epoch"),
                "reason": trial.user_attrs.get("reason"),
            }
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def run_folder(self, number: int) -> pathlib.Path:
        """Path of a trial's run folder."""
        return self.path / "trials" / f"{number:05d}"

    def _lock(self, number: int, stack: contextlib.ExitStack) -> bool:
        """Locks a trial until the stack is closed; False if another process has it."""
        return stack.enter_context(locked(self.path / "locks" / f"{number:05d}"))

    def _exclusive(self) -> contextlib.AbstractContextManager[bool]:
        """Keeps other processes from claiming or finishing a trial."""
        return locked(self.path / "locks" / "study", wait=True)


def _open_storage(path: pathlib.Path) -> optuna.storages.BaseStorage:
    """Opens Optuna's journal, without a last line that a full disk or crash cut."""
    lock = journal.JournalFileOpenLock(str(path))
    backend = journal.JournalFileBackend(str(path), lock_obj=lock)
    lock.acquire()
    try:
        content = path.read_bytes()
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            os.truncate(path, complete)
    finally:
        lock.release()
    return journal.JournalStorage(backend)
