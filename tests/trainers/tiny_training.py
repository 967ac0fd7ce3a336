"""A minimal training run, for tests of interruptions."""

import json
import os
import signal

import keras
import numpy as np
from keras.ops import convert_to_numpy

from tf_mopoe import Modality, MoPoEVAE
from trainers.config.train_config import TrainConfig
from trainers.fitting import train_run
from trainers.recipes.recipe import LabelledData, Recipe
from trainers.runs.run_folder import RunFolder

STEPS = 5  # of an epoch
EPOCHS = 3


class TinyConfig(TrainConfig):
    epochs: int = EPOCHS
    batch_size: int = 8
    learning_rate: float = 1e-2
    latent_dim: int = 2
    beta: float = 1.0
    checkpoint_minutes: float | None = None


def build_model(config, num_steps):
    """Builds a minimal model, since each test traces it again."""
    layers = keras.layers
    encoder = keras.Sequential([keras.Input((4,)), layers.Dropout(0.3)])
    size = config.latent_dim
    decoder = keras.Sequential([keras.Input((size,)), layers.Dense(4)])
    modality = Modality(
        "a", (4,), encoder=encoder, decoder=decoder, likelihood="normal"
    )
    beta = keras.optimizers.schedules.PolynomialDecay(0.1, num_steps, 1.0)
    return MoPoEVAE([modality], config.latent_dim, beta=beta, seed=config.seed)


def load_data(config, split):
    rows = {"train": STEPS * 8 + 3, "validation": 20}[split]
    values = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    return LabelledData({"a": values}, np.arange(rows) % 10)


RECIPE = Recipe(TinyConfig, build_model, load_data, num_classes=10)


def run(out, *more, recipe=RECIPE, **settings):
    train_run.train("tiny", recipe, TinyConfig(**settings), str(out), callbacks=more)


class At(keras.callbacks.Callback):
    """Calls a function once, at one point of the training."""

    def __init__(self, act, *, epoch=0, batch=0, moment="train_batch_begin"):
        super().__init__()
        self.act, self.epoch, self.now = act, epoch, None
        setattr(self, f"on_{moment}", self._when(batch))

    def _when(self, batch):
        def moment(index, logs=None):
            if self.now == self.epoch and index == batch and self.act:
                act, self.act = self.act, None
                act(self.model)

        return moment

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch


def terminate(model=None):
    os.kill(os.getpid(), signal.SIGTERM)


class Crash(Exception):
    pass


def crash(model):
    raise Crash


def everything(out):
    """The complete final state of a run, bit for bit."""
    model = RunFolder(out).load_model()
    newest = RunFolder(out).checkpoints.find()
    variables = [*model.weights, *model.optimizer.variables]
    return (
        [convert_to_numpy(variable).tobytes() for variable in variables],
        newest.state,
        json.loads((out / "history.json").read_text()),
        (out / "history.csv").read_text(),
        model.optimizer.get_config()["learning_rate"],
        keras.saving.load_model(out / "best.keras").get_weights()[0].tobytes(),
    )
