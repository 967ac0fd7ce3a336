"""A stub of training, for tests of `mopoe-tune`."""

import json

from trainers import tune
from trainers.errors import RunError
from trainers.runs.atomic_files import write_json
from trainers.runs.history import validation_elbo
from trainers.runs.run_folder import RunFolder

EPOCHS = 3


def fake_train(recipe_name, recipe, config, out, *, callbacks):
    """Resumes a run whose bound is better the nearer beta is to 2."""
    run = RunFolder(out)
    run.prepare(recipe_name, config)
    history = {}
    if run.history_file.exists():
        history = json.loads(run.history_file.read_text())
    for epoch in range(len(history.get("loss", [])), config.epochs):
        bound = epoch - 10 * abs(config.beta - 2)
        logs = {"loss": -bound * config.beta, "val_kl_bound": 1.0}
        logs |= {"val_m0_log_likelihood": bound - 4, "val_m1_log_likelihood": 5.0}
        logs["val_elbo"] = validation_elbo(logs)
        for name, value in logs.items():
            history.setdefault(name, []).append(value)
        write_json(run.history_file, history)
        print(f"epoch {epoch}")
        for callback in callbacks:
            callback.on_epoch_end(epoch, logs)


def run_tune(out, *arguments, epochs=EPOCHS, count=3, recipe="polydigits"):
    command = [recipe, "--out", str(out), "--epochs", str(epochs)]
    return tune.main([*command, "--trials", str(count), *arguments])


def summary(out):
    return json.loads((out / "study.json").read_text())["trials"]


def parameters(out):
    return [trial["parameters"] for trial in summary(out)]


def states(out):
    return [trial["state"] for trial in summary(out)]


def caused_by(cause):
    """A `RunError` with a cause, as `train` raises it."""
    error = RunError("wrapped")
    error.__cause__ = cause
    return error


def in_context_of(context):
    """A `RunError` as Keras leaves it: without its cause, but with its context."""
    error = RunError("wrapped")
    error.__context__ = context
    return error


def failing(error, *, number):
    """`fake_train` with an error after the first epoch of one trial."""

    def train(recipe_name, recipe, config, out, *, callbacks):
        if out.endswith(f"{number:05d}"):
            first = config.model_copy(update={"epochs": 1})
            if not RunFolder(out).history_file.exists():
                fake_train(recipe_name, recipe, first, out, callbacks=callbacks)
            raise error
        fake_train(recipe_name, recipe, config, out, callbacks=callbacks)

    return train
