"""Example of your own data: six tables of the same digits, with missing views.

    TF_MOPOE_DATA=folder python benchmarks/six_views.py [--epochs 60]

UCI *Multiple Features*: 2000 digits as Fourier coefficients (fou, 76), profile
correlations (fac, 216), Karhunen-Loeve coefficients (kar, 64), pixel averages (pix,
240), Zernike moments (zer, 47) and morphological features (mor, 6), in `mfeat.npz`.
30 % of the training views are missing at random; each view of 400 test rows is imputed
from the others. The model's settings were chosen on 400 of the training rows.

R^2 is 1 - squared error / variance on the test rows, averaged over the columns that are
not constant there; predicting the column's mean scores 0. The ridge regressions predict
a view from one other view, are fitted on the training rows that have both, and choose
their penalty by leave-one-out cross-validation.
"""

import argparse
import os
import pathlib
import time

import keras
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from tf_mopoe import Modality, MoPoEVAE, nets
from tf_mopoe.data import drop_at_random
from tf_mopoe.subsets import subset_names

VIEWS = ("fou", "fac", "kar", "pix", "zer", "mor")
EPOCHS = 60


def fit_and_impute(path: pathlib.Path, epochs: int = EPOCHS):
    """The code of a user: load, drop views, standardise, fit, impute `zer`."""
    raw = np.load(path)
    order = np.random.default_rng(0).permutation(2000)  # the file is sorted by class
    train = {view: raw[view][order[:1600]] for view in VIEWS}
    test = {view: raw[view][order[1600:]] for view in VIEWS}
    train = drop_at_random(train, 0.3, seed=0)
    modalities, dense = [], {"hidden": (512,), "activation": "gelu"}
    keras.utils.set_random_seed(0)
    for view in VIEWS:
        scaler = StandardScaler().fit(train[view][train["present"][view]])
        train[view], test[view] = map(scaler.transform, (train[view], test[view]))
        shape = train[view].shape[1:]
        encoder = nets.dense_encoder(shape, **dense)
        encoder = keras.Sequential([keras.layers.Dropout(0.2), encoder])
        decoder = nets.dense_decoder(shape, 64, **dense)
        scale = {"likelihood_scale": "per_element"}
        modalities.append(Modality(view, shape, encoder, decoder, **scale))
    model = MoPoEVAE(modalities, 64, beta=0.1, prior_expert="none", seed=0)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * 25)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(train, epochs=epochs, batch_size=64, verbose=0)
    others = {view: test[view] for view in VIEWS if view != "zer"}
    return model, train, test, model.predict(others, verbose=0)["zer"]


def impute_by_product(model: MoPoEVAE, given: dict, target: str) -> np.ndarray:
    """Imputes the target from the product of all given experts, not the mixture."""
    subset = "+".join(view for view in VIEWS if view in given)
    component = subset_names(VIEWS).index(subset)
    z = model.subset_posteriors(given).loc[:, component]  # [B, D]
    return model.decode_modality(target, z).numpy()


def mean_r2(actual: np.ndarray, predicted: np.ndarray) -> float:
    """R^2 of `[N, F]`, averaged over the columns that are not constant."""
    variance = actual.var(axis=0)
    varies = variance > 0
    error = np.mean((actual - predicted) ** 2, axis=0)
    return float(np.mean(1 - error[varies] / variance[varies]))


def ridge_r2(train: dict, test: dict, source: str, target: str) -> float:
    """R^2 of a ridge regression of one view on another."""
    both = train["present"][source] & train["present"][target]
    ridge = RidgeCV(alphas=np.logspace(-2, 5, 8))
    ridge.fit(train[source][both], train[target][both])
    return mean_r2(test[target], ridge.predict(test[source]))


def measure(model: MoPoEVAE, train: dict, test: dict) -> dict[str, dict[str, float]]:
    """R^2 by view: imputed from the five others, from one, and by the regressions."""
    rows = {}
    for target in VIEWS:
        others = {view: test[view] for view in VIEWS if view != target}
        single = {
            view: mean_r2(
                test[target], impute_by_product(model, {view: test[view]}, target)
            )
            for view in others
        }
        ridge = {view: ridge_r2(train, test, view, target) for view in others}
        rows[target] = {
            "product5": mean_r2(test[target], impute_by_product(model, others, target)),
            "mixture5": mean_r2(test[target], model.predict(others, verbose=0)[target]),
            "one_best": max(single.values()),
            "one_average": float(np.mean([*single.values()])),
            "ridge_best": max(ridge.values()),
            "ridge_average": float(np.mean([*ridge.values()])),
            "ridge_wins": sum(ridge[view] > single[view] for view in others),
            "ridge_source": max(ridge, key=ridge.get),
        }
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Prints the table, or the reason why there is none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args(arguments)
    path = pathlib.Path(os.environ.get("TF_MOPOE_DATA", ".")) / "mfeat.npz"
    if not path.is_file():
        print(f"skipped: there is no {path}; set TF_MOPOE_DATA to its folder.")
        return
    started = time.perf_counter()
    model, train, test, _ = fit_and_impute(path, options.epochs)
    print(f"loaded, fitted and imputed in {time.perf_counter() - started:.0f} s")
    print("R^2 on 400 test rows (1: perfect, 0: the mean), average over columns")
    print("      model, from five    model, from one    ridge, from one   one by one,")
    print(
        "view  product  mixture      best  average      best (of)  average  ridge wins"
    )
    for view, row in measure(model, train, test).items():
        print(
            f"{view}   {row['product5']:8.3f} {row['mixture5']:8.3f}"
            f"  {row['one_best']:8.3f} {row['one_average']:8.3f}"
            f"  {row['ridge_best']:8.3f} ({row['ridge_source']})"
            f" {row['ridge_average']:7.3f} {row['ridge_wins']:6} of 5"
        )


if __name__ == "__main__":
    main()
