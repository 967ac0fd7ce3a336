"""Compares training on all rows with training on the complete rows only.

    python benchmarks/missing_data.py [--steps 1500] [--fraction 0.5] [--seed 0]

PolyDigits, one pairing; images of the training rows are missing at random, and rows
without any image are dropped. Two models with the same seed are trained for the same
number of steps, one on all rows, one on the complete ones. Small dense networks.

Bounds are importance-weighted with 16 samples, in nats a row, for the modalities
present: on complete test rows, and on test rows with missing images ("with holes").
"Best" uses the weights of the epoch with the best bound on the complete rows of the
validation split, because few rows are soon overfitted; "last" those after the last
step.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe import Modality, MoPoEVAE, nets
from tf_mopoe.data import drop_at_random, load_polydigits

IMAGE, LATENT_DIM, HIDDEN, BATCH, EPOCHS = (28, 28, 3), 16, (64,), 64, 10
TRAINED_ON = ("all rows", "complete rows")


def load(split: str, seed: int) -> dict[str, np.ndarray]:
    """Images of one pairing, float32 in [0, 1], `[N, 28, 28, 3]` a modality."""
    images = load_polydigits(split, pairings=1, seed=seed).images
    return {name: (x / 255).astype(np.float32) for name, x in images.items()}


def take(data, rows):
    """Selects rows of the modalities and of their flags."""
    if isinstance(data, dict):
        return {name: take(value, rows) for name, value in data.items()}
    return data[rows]


def with_holes(data, fraction: float, seed: int):
    """Data and flags with images missing at random, without rows that lose all."""
    holed = drop_at_random(data, fraction, seed=seed, keep_one=False)
    flags = np.stack([*holed["present"].values()], axis=-1)  # [N, M]
    some = flags.any(axis=-1)
    return take(holed, some), flags[some]


def make_model(names, seed: int, **options) -> MoPoEVAE:
    """Small dense networks; the same seed gives the same initial weights."""
    keras.utils.set_random_seed(seed)
    modalities = [
        Modality(
            name,
            IMAGE,
            encoder=nets.dense_encoder(IMAGE, hidden=HIDDEN),
            decoder=nets.dense_decoder(IMAGE, LATENT_DIM, hidden=HIDDEN),
            likelihood_scale=0.2,
        )
        for name in names
    ]
    return MoPoEVAE(modalities, LATENT_DIM, seed=seed, **options)


def make_evaluator(names, seed: int) -> MoPoEVAE:
    """The same model with the importance-weighted bound of 16 samples."""
    evaluator = make_model(names, seed, objective="iwae", num_samples=16)
    evaluator.compile()
    return evaluator


def held_out_bound(evaluator: MoPoEVAE, weights, data) -> float:
    """Bound on log p(X) with these weights, in nats a row."""
    evaluator.set_weights(weights)
    logs = evaluator.evaluate(data, batch_size=256, verbose=0, return_dict=True)
    return -logs["loss"]


def train(data, validation, evaluator: MoPoEVAE, *, steps, seed, epochs, learning_rate):
    """Weights after the last step, and of the best epoch on `validation`."""
    rows = len(next(iter(data.values())))
    batches = (
        tf.data.Dataset.from_tensor_slices(data)
        .shuffle(rows, seed=seed)
        .repeat()
        .batch(BATCH)
        .prefetch(2)
    )
    model = make_model(validation, seed)
    model.compile(keras.optimizers.Adam(learning_rate))
    weights, bounds = [], []

    def remember(epoch, logs):
        weights.append(model.get_weights())
        bounds.append(held_out_bound(evaluator, weights[-1], validation))

    model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=max(1, steps // epochs),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=remember)],
        shuffle=False,  # the data set is shuffled already
        verbose=0,
    )
    return {"last": weights[-1], "best": weights[int(np.argmax(bounds))]}


def compare(
    steps: int,
    fraction: float,
    seed: int,
    *,
    epochs: int = EPOCHS,
    learning_rate: float = 1e-3,
) -> dict[str, dict]:
    """Number of rows, seconds, and bounds of each model by test rows and weights."""
    settings = {"epochs": epochs, "learning_rate": learning_rate}
    holed, flags = with_holes(load("train", seed), fraction, seed)
    complete = take(holed, flags.all(axis=-1))
    del complete["present"]
    validation = load("validation", seed)
    test = load("test", seed)
    tests = {
        "complete": test,
        "with holes": with_holes(test, fraction, seed + 1)[0],
    }
    evaluator = make_evaluator(test, seed)
    results = {}
    for name, data in zip(TRAINED_ON, (holed, complete)):
        started = time.perf_counter()
        weights = train(data, validation, evaluator, steps=steps, seed=seed, **settings)
        results[name] = {
            "rows": len(data["m0"]),
            "seconds": time.perf_counter() - started,
            **{
                (kind, when): held_out_bound(evaluator, weights[when], rows)
                for when in ("last", "best")
                for kind, rows in tests.items()
            },
        }
    return results


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--fraction", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = compare(options.steps, options.fraction, options.seed)
    columns = [(k, w) for w in ("last", "best") for k in ("complete", "with holes")]
    print(f"held-out bound in nats a row, {options.steps} steps of {BATCH} rows")
    heads = "".join(f"{f'{kind}, {when}':>18}" for kind, when in columns)
    print(f"{'trained on':15}{'rows':>6}{heads}{'seconds':>9}")
    for name, result in results.items():
        bounds = "".join(f"{result[column]:18.1f}" for column in columns)
        print(f"{name:15}{result['rows']:6}{bounds}{result['seconds']:9.0f}")
    gains = [results["all rows"][c] - results["complete rows"][c] for c in columns]
    print(f"{'gain':21}" + "".join(f"{gain:18.1f}" for gain in gains))


if __name__ == "__main__":
    main()
