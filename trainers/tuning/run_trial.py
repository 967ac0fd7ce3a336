"""One trial of a study: a training, monitored by Optuna."""

import contextlib
import json
import pathlib
from typing import TYPE_CHECKING, Any

from trainers.errors import RunError, UsageError, one_of
from trainers.fitting.train_run import train
from trainers.recipes.registry import RecipeChoice
from trainers.runs.checkpoints import root_cause
from trainers.runs.history import Monitor
from trainers.runs.run_folder import RunFolder
from trainers.tuning.search_space import with_settings

if TYPE_CHECKING:
    from optuna.trial import Trial

    from trainers.tuning.study_folder import StudyFolder


def run_trial(choice: RecipeChoice, study: "StudyFolder", trial: "Trial") -> None:
    """Trains a trial, or resumes it, and prints its result in one line.

    The output of the training goes to train.log in the trial's folder. If training
    fails because of the parameters, so does the trial; other failures, such as a full
    disk, stop the command, and the trial can be resumed.

    Args:
      choice: The recipe, and the configuration that the trial's parameters change.
      study: The study's folder.
      trial: Claimed trial of the study.
    """
    import keras
    import optuna
    import tensorflow as tf

    texts = [f"{name}={format_value(x)}" for name, x in trial.params.items()]
    print(f"Trial {trial.number}: {', '.join(texts)}: ", end="", flush=True)
    states = optuna.trial.TrialState
    outcome = "stopped"
    try:
        value, epoch = _train(choice, trial, study.run_folder(trial.number))
        study.tell(trial, value, epoch=epoch)
        outcome = f"{choice.config.monitor} {format_value(value)} (epoch {epoch})"
    except optuna.TrialPruned:
        study.tell(trial, state=states.PRUNED)
        outcome = "pruned"
    except (RunError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        if not _due_to_parameters(error):
            raise
        reason = str(error).partition("\n")[0] or "out of memory"
        study.tell(trial, state=states.FAIL, reason=reason)
        outcome = f"failed: {reason}"
    finally:
        print(outcome, flush=True)
        keras.utils.clear_session()


def _due_to_parameters(error: BaseException) -> bool:
    """Whether other parameters may succeed; not if a file is the cause."""
    import tensorflow as tf

    cause = root_cause(error.__cause__ or error)
    if isinstance(cause, tf.errors.ResourceExhaustedError):
        return "No space left" not in str(cause)  # memory, not a disk
    return isinstance(cause, RunError | ValueError | MemoryError)


def _train(
    choice: RecipeChoice, trial: "Trial", folder: pathlib.Path
) -> tuple[float, int]:
    """Returns the best value and its epoch, counted from 1."""
    import keras
    import optuna

    config = with_settings(choice.config, trial.params)
    monitor = Monitor(config)

    def report(epoch: int, logs: Any) -> None:
        trials = trial.study.get_trials(deepcopy=False)
        value = (logs or {}).get(monitor.metric)
        # An epoch that is repeated after a crash has been reported already.
        if value is None or epoch in trials[trial.number].intermediate_values:
            return
        trial.report(value, epoch)
        if epoch + 1 < config.epochs and trial.should_prune():
            raise optuna.TrialPruned

    folder.mkdir(exist_ok=True)
    log = (folder / "train.log").open("a", buffering=1)
    with log, contextlib.redirect_stdout(log):
        train(
            choice.name,
            choice.recipe,
            config,
            str(folder),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
        )
    history = json.loads(RunFolder(folder).history_file.read_text())
    best = monitor.best_epoch(history)
    if best is None:
        raise UsageError(
            f"--monitor: no epoch has {monitor.metric!r}. "
            f"{one_of(history, monitor.metric)}"
        )
    return history[monitor.metric][best], best + 1


def format_value(value: Any) -> str:
    """Formats a number with five significant digits, or a name as it is."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
