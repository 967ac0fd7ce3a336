"""Imputation: how far off it is, beside simple baselines."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_mopoe.checks import whole_number
from tf_mopoe.data import ordered_batches
from tf_mopoe.metrics.coherence import SUBSET_POSTERIORS
from tf_mopoe.metrics.holed_rows import holed_rows, presence
from tf_mopoe.modality import Modality
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import membership_mask, subset_names

#: Penalties that the ridge regressions choose from.
ALPHAS = np.logspace(-2, 5, 8)
#: More inputs become as many principal components; on as many outputs, evenly spaced,
#: the penalty is chosen.
MOST_INPUTS, MOST_OUTPUTS = 100, 250


def imputation_error(
    model: MultimodalVAE,
    train: Mapping[str, Any],
    test: Mapping[str, Any],
    *,
    posterior: str = "product",
    num_train: int = 5000,
    batch_size: int = 256,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Error of imputing each modality from each subset of others, and of baselines.

    `"model"`: the mean of p(x_t | z, s_t) at z the mean of the subset's posterior and
    s_t = 0, the mean of its prior. `"mean"`: the training mean of every element.
    `"ridge"`: a ridge regression from one modality of the subset, the one with the
    smallest leave-one-out error on the training rows, which also choose its penalty.
    Inputs are standardised, class indices one-hot. So that images take seconds, more
    than 100 inputs are reduced to their first 100 principal components, and the errors
    to choose by are those of at most 250 elements of the target.

    Errors are root mean squares over rows and elements, in units of the data (uint8:
    of [0, 1]). Of class indices they are the share of symbols that are wrong: the model
    takes the most probable one, `"mean"` the most frequent one at its place in the
    training rows, and `"ridge"` is None. Rows count in which the target and the whole
    subset are present; nan where there are none.

    Args:
      model: The model, of at most 12 modalities.
      train: All modalities by name, `[N, *event_shape]`; optionally `"present"`:
        name to bool `[N]`. Used by the baselines alone.
      test: The same, of the rows to impute.
      posterior: `"product"`: a subset stands for its product of experts; `"mixture"`:
        for the uniform mixture of the products of all its subsets.
      num_train: Training rows for the ridge regressions, the first ones.
      batch_size: Rows at a time.
      progress: Wraps the iterable of sources, then that of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to `{"model", "mean", "ridge"}`.

    Raises:
      ValueError: If `posterior` is unknown, or a modality is in no (training) row.
    """
    if posterior not in SUBSET_POSTERIORS:
        raise ValueError(
            f"`posterior` must be one of {list(SUBSET_POSTERIORS)}. "
            f"Received: {posterior!r}."
        )
    num_train = whole_number("num_train", num_train, minimum=1)
    train, test = holed_rows(model, train, "train"), holed_rows(model, test, "test")
    modalities, names = model.modalities, model.modality_names
    mask = membership_mask(len(names))[:-1]  # [S, M], without the full set
    pairs = np.argwhere(~mask).tolist()  # (row, target)
    constants = [_constant(modality, train) for modality in modalities]
    reductions, ridges = _fit_ridges(model, train, num_train, progress)
    best = {(row, target): _best(ridges, mask[row], target) for row, target in pairs}
    sums, totals = np.zeros([*mask.shape, 3]), np.zeros(mask.shape)
    for batch in progress(ordered_batches(test, batch_size)):
        z, here = _subset_means(model, batch, mask, posterior), presence(model, batch)
        actual = [_filled(batch[name].numpy(), h) for name, h in zip(names, here.T)]
        fixed = [_errors(*three) for three in zip(modalities, actual, constants)]
        regressed: dict[Any, np.ndarray] = {None: np.full(len(here), np.nan)}
        for source, reduction in reductions.items():
            features = reduction.transform(_inputs(modalities[source], actual[source]))
            for target in (t for s, t in ridges if s == source):
                found = ridges[source, target][1].predict(features)
                own = _errors(modalities[target], actual[target], found)
                regressed[source, target] = own
        for row, target in pairs:
            decoded = model.decode_modality(names[target], z[:, row]).numpy()
            own = _errors(modalities[target], actual[target], decoded)
            errors = [own, fixed[target], regressed[best[row, target]]]  # [3, B]
            kept = here[:, mask[row]].all(axis=1) & here[:, target]
            sums[row, target] += np.sum(errors, axis=1, where=kept)
            totals[row, target] += kept.sum()
    results: dict[str, dict[str, dict[str, float | None]]] = {}
    for row, target in pairs:
        power = 0.5 if modalities[target].num_classes is None else 1.0
        means = divided(sums[row, target], totals[row, target]) ** power
        found = dict(zip(("model", "mean", "ridge"), means.tolist()))
        if best[row, target] is None:
            found["ridge"] = None
        results.setdefault(subset_names(names)[row], {})[names[target]] = found
    return results


def _filled(values: np.ndarray, here: np.ndarray) -> np.ndarray:
    """The values, with 0 in rows where they are missing; uint8 in [0, 1]."""
    values = values / np.float32(255) if values.dtype == np.uint8 else values
    where = here.reshape([-1] + [1] * (values.ndim - 1))
    return np.where(where, values, values.dtype.type(0))


def _inputs(modality: Modality, values: np.ndarray) -> np.ndarray:
    """What a regression is given, `[B, F]`; class indices become one-hot."""
    if modality.num_classes is not None:
        values = np.eye(modality.num_classes, dtype=np.float32)[values.astype(int)]
    return values.reshape(len(values), -1)


def _errors(modality: Modality, actual, predicted):
    """Mean squares over elements, or shares of wrong symbols, `[B]`."""
    if modality.num_classes is None:
        elements = np.square(predicted.reshape([-1, *modality.event_shape]) - actual)
    else:
        if predicted.ndim > actual.ndim:
            predicted = np.argmax(predicted, axis=-1)
        elements = predicted != actual
    return elements.reshape(len(actual), -1).mean(axis=1, dtype=np.float64)


def _constant(modality: Modality, train):
    """Mean, or the most frequent symbol, of every place: `[1, *event_shape]`."""
    array, here = train[modality.name], train["present"][modality.name]
    if not here.any():
        raise ValueError(f"`train` must have rows of {modality.name!r}. Received none.")
    if modality.num_classes is not None:
        symbols = range(modality.num_classes)
        counts = [np.sum(array[here] == symbol, axis=0) for symbol in symbols]
        return np.argmax(counts, axis=0)[np.newaxis]
    where = here.reshape([-1] + [1] * (array.ndim - 1))
    mean = np.mean(array, axis=0, keepdims=True, where=where, dtype=np.float64)
    return mean / 255 if array.dtype == np.uint8 else mean


def _fit_ridges(model, train, num_train, progress):
    """Source to what makes its features; (source, target) to the score and ridge."""
    here = presence(model, train)[:num_train]
    first = [train[name][:num_train] for name in model.modality_names]
    values = [_filled(array, flag) for array, flag in zip(first, here.T)]
    reductions, ridges = {}, {}
    for source in progress(range(len(values))):
        own = here[:, source]
        if not own.any():
            continue
        inputs = _inputs(model.modalities[source], values[source])[own]
        steps: list[Any] = [StandardScaler()]
        if inputs.shape[1] > MOST_INPUTS:
            steps.append(PCA(min(MOST_INPUTS, len(inputs)), random_state=0))
        reductions[source] = make_pipeline(*steps)
        features = reductions[source].fit_transform(inputs)
        for target, modality in enumerate(model.modalities):
            both = here[own, target]
            if target != source and modality.num_classes is None and both.sum() > 1:
                outputs = values[target][own][both].reshape(both.sum(), -1)
                width = outputs.shape[1]
                some = np.linspace(0, width - 1, min(width, MOST_OUTPUTS)).astype(int)
                chosen = RidgeCV(ALPHAS).fit(features[both], outputs[:, some])
                ridge = Ridge(chosen.alpha_).fit(features[both], outputs)
                ridges[source, target] = chosen.best_score_, ridge
    return reductions, ridges


def _best(ridges, members: np.ndarray, target: int) -> tuple[int, int] | None:
    """(source, target) of the least leave-one-out error, sources bool `[M]`."""
    fitted = [(s, t) for s, t in ridges if members[s] and t == target]
    return max(fitted, key=lambda key: ridges[key][0], default=None)


def _subset_means(model, batch, mask, posterior) -> tf.Tensor:
    """Mean of each subset's posterior, `[B, S, D]`."""
    loc = model.subset_posteriors(batch).loc[:, : len(mask)]
    if posterior == "product":
        return loc
    within = ~np.any(mask[np.newaxis] & ~mask[:, np.newaxis], axis=-1)  # [S, S]
    shares = within / within.sum(axis=1, keepdims=True)
    return tf.linalg.matmul(tf.constant(shares, loc.dtype), loc)


def divided(sums: np.ndarray, count: float) -> np.ndarray:
    return sums / count if count else np.full_like(sums, np.nan)
