"""One trial of a study: a training, watched by Optuna."""

import contextlib
import json
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

from trainers.config.train_config import TrainConfig
from trainers.errors import RunError
from trainers.fitting.train_run import train
from trainers.recipes.recipe import Recipe
from trainers.runs.run_folder import RunFolder
from trainers.tuning.objective import Objective
from trainers.tuning.search_space import with_settings

if TYPE_CHECKING:
    from optuna.trial import Trial

    from trainers.tuning.study_folder import StudyFolder


class Task(NamedTuple):
    """What all trials of a study share."""

    recipe_name: str
    recipe: Recipe
    config: TrainConfig
    objective: Objective


def run_trial(task: Task, study: "StudyFolder", trial: "Trial") -> None:
    """Trains a trial, or goes on training it, and says in one line what came out.

    What `mopoe-train` would say goes to train.log in the trial's folder. Training that
    fails because of the parameters makes a failed trial; what has other causes, such
    as a full disk, stops the command, and leaves the trial to be taken up again.
    """
    import keras
    import optuna
    import tensorflow as tf

    texts = [f"{name}={shown(value)}" for name, value in trial.params.items()]
    print(f"Trial {trial.number}: {', '.join(texts)}: ", end="", flush=True)
    failed = optuna.trial.TrialState.FAIL
    outcome = "stopped"
    try:
        value, epoch = _train(task, trial, study.run_folder(trial.number))
        study.tell(trial, value, epoch=epoch)
        outcome = f"{task.objective.metric} {shown(value)} (epoch {epoch})"
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        outcome = "pruned"
    except (RunError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        if not _by_parameters(error):
            raise
        reason = str(error).partition("\n")[0] or "out of memory"
        study.tell(trial, state=failed, reason=reason)
        outcome = f"failed: {reason}"
    finally:
        print(outcome, flush=True)
        keras.utils.clear_session()


def _by_parameters(error: BaseException) -> bool:
    """Whether it may be otherwise with others; not where a file is the trouble."""
    import tensorflow as tf

    cause = error.__cause__ or error
    if isinstance(cause, tf.errors.ResourceExhaustedError):
        return "No space left" not in str(cause)  # memory, not a disk
    return isinstance(cause, RunError | ValueError | MemoryError)


def _train(task: Task, trial: "Trial", folder: pathlib.Path) -> tuple[float, int]:
    """Returns the best value and its epoch."""
    import keras

    config = with_settings(task.config, trial.params)

    def report(epoch: int, logs: Any) -> None:
        last = epoch + 1 == config.epochs
        _report(trial, epoch, task.objective.value(logs or {}), last=last)

    folder.mkdir(exist_ok=True)
    log = (folder / "train.log").open("a", buffering=1)
    with log, contextlib.redirect_stdout(log):
        train(
            task.recipe_name,
            task.recipe,
            config,
            str(folder),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
        )
    history = json.loads(RunFolder(folder).history_file.read_text())
    return task.objective.best(history)


def _report(trial: "Trial", epoch: int, value: float | None, *, last: bool) -> None:
    """Tells Optuna an epoch's value.

    Raises:
      TrialPruned: If the trial is behind the others, and this is not its last epoch.
    """
    import optuna

    known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    if value is None or epoch in known:  # trained again, after a crash
        return
    trial.report(value, epoch)
    if not last and trial.should_prune():
        raise optuna.TrialPruned


def shown(value: Any) -> str:
    """A number with the digits that matter, or a name."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
