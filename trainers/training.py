"""Trains a recipe into a run folder, and goes on where it stopped."""

import sys
from typing import TYPE_CHECKING, NamedTuple

from trainers.config import TrainConfig
from trainers.recipe import Recipe
from trainers.run_folder import RunFolder

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from tf_mopoe.models import MultimodalVAE


def train(recipe_name: str, recipe: Recipe, config: TrainConfig, out: str) -> None:
    """Trains, or goes on training, the run in folder `out`.

    Writes config.json, checkpoints/, model.keras, history.json and logs/ there.
    """
    run = RunFolder(out)
    if recipe.resolve:
        config = recipe.resolve(config)
    run.prepare(recipe_name, config)

    import keras

    from trainers.callbacks import Checkpoint, TensorBoardEvaluation

    restored = run.restore()
    history = restored.history if restored else {}
    done = len(history.get("loss", ()))
    if done >= config.epochs:
        print(f"{out} has been trained for {done} of {config.epochs} epochs: all done.")
        return
    data = load_training(recipe, config, first_epoch=done)
    run.write_config(recipe_name, config)  # perhaps with more epochs than before
    if done:
        print(f"Resuming {out} after epoch {done} of {config.epochs}.")
    # Not before the data are made: TFDS draws names of folders from the same generator.
    keras.utils.set_random_seed(config.seed)
    model = make_model(recipe, config, num_steps=config.epochs * data.steps)
    if restored:
        copy_state(restored.model, model)
    callbacks: list[keras.callbacks.Callback] = [
        keras.callbacks.TensorBoard(run.logs, write_graph=False),
        Checkpoint(run, history),  # before what may fail
    ]
    if config.evaluate_every:
        callbacks.append(
            TensorBoardEvaluation(run, recipe, config, every=config.evaluate_every)
        )
    model.fit(
        data.batches,
        shuffle=False,  # the batches are
        initial_epoch=done,
        epochs=config.epochs,
        steps_per_epoch=data.steps,
        validation_data=data.validation,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    print(f"Trained {config.epochs} epochs: {run.model_file}")


class TrainingData(NamedTuple):
    """What a run trains on: endless batches, so many an epoch; those of validation."""

    batches: "tf.data.Dataset"
    steps: int
    validation: "tf.data.Dataset"


def load_training(
    recipe: Recipe, config: TrainConfig, *, first_epoch: int
) -> TrainingData:
    """Reads, or makes, what the recipe trains on, from an epoch on."""
    from tf_mopoe.data import (
        drop_at_random,
        num_rows,
        ordered_batches,
        shuffled_batches,
    )

    if recipe.training_rows:
        rows = recipe.training_rows(config)
    else:
        rows = recipe.load_data(config, "train").modalities
    if config.missing:
        rows = drop_at_random(rows, config.missing, seed=config.seed)
    count = num_rows(rows)
    batch_size = min(config.batch_size, count)
    batches = shuffled_batches(
        rows,
        batch_size,
        seed=config.seed,
        first_epoch=first_epoch,
        augment=recipe.augment(config) if recipe.augment else None,
    )
    validation = recipe.load_data(config, "validation").modalities
    return TrainingData(
        batches, count // batch_size, ordered_batches(validation, config.batch_size)
    )


def make_model(recipe: Recipe, config: TrainConfig, num_steps: int) -> "MultimodalVAE":
    """The recipe's model, compiled for a training of `num_steps` steps in all."""
    import keras

    learning_rate = config.learning_rate
    if config.schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(learning_rate, num_steps)
    model = recipe.build_model(config, num_steps)
    model.compile(keras.optimizers.Adam(learning_rate))
    return model


def copy_state(source: "MultimodalVAE", target: "MultimodalVAE") -> None:
    """Copies weights and the optimizer's state.

    The target keeps its own schedules, which a larger number of epochs stretches.
    """
    target.set_weights(source.get_weights())
    target.optimizer.build(target.trainable_variables)
    for variable, value in zip(
        target.optimizer.variables, source.optimizer.variables, strict=True
    ):
        variable.assign(value)
