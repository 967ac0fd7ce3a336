"""Errors of imputation, compared with simple baselines."""

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
from tf_mopoe.metrics.incomplete_rows import presence, rows_with_flags
from tf_mopoe.metrics.subset_samples import SUBSET_POSTERIORS, subsets_within
from tf_mopoe.modality import Modality
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import membership_mask, subset_names

#: Penalties that the ridge regressions choose from.
ALPHAS = np.logspace(-2, 5, 8)
#: Maximum number of inputs of a ridge regression; more are reduced to as many principal
#: components.
MAX_INPUTS = 100
#: Maximum number of outputs, evenly spaced, on which the penalty is chosen.
MAX_OUTPUTS = 250


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
    smallest leave-one-out error on the training rows; its penalty is chosen in the same
    way. Inputs are standardised, class indices one-hot. To keep images fast, more than
    100 inputs are reduced to their first 100 principal components, and the choices are
    made on at most 250 elements of the target.

    Errors are root mean squares over rows and elements, in units of the data (uint8: in
    [0, 1]). For class indices they are the fraction of wrong symbols: `"model"` takes
    the most probable symbol, `"mean"` the most frequent one at its position in the
    training rows, and `"ridge"` is None. Only rows in which the target and the whole
    subset are present count; the error is NaN if there are none.

    Args:
      model: Model of at most 12 modalities.
      train: All modalities by name, `[N, *event_shape]`; optionally `"present"`:
        modality name to bool `[N]`. Only the baselines use these rows.
      test: Rows to impute, in the same form.
      posterior: Posterior of a subset: `"product"`, its product of experts; or
        `"mixture"`, the uniform mixture of the products of all its subsets.
      num_train: Number of training rows for the ridge regressions, the first ones.
      batch_size: Number of rows at a time.
      progress: Wrapper of the iterable of sources, then of that of batches, e.g.
        `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to `{"model", "mean", "ridge"}`.

    Raises:
      TypeError: If an array does not hold numbers, or a flag is not bool.
      ValueError: If `posterior` is unknown, a modality is absent from all training
        rows, or the data do not fit the model.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (1,))], 2, seed=0)
      >>> rows = {"a": np.eye(3, dtype="f"), "b": np.array([[0.0], [3.0], [6.0]], "f")}
      >>> error = imputation_error(model, rows, rows)["a"]["b"]
      >>> round(error["mean"] ** 2, 3)  # the variance of 0, 3 and 6
      6.0
    """
    if posterior not in SUBSET_POSTERIORS:
        raise ValueError(
            f"`posterior` must be one of {list(SUBSET_POSTERIORS)}. "
            f"Received: {posterior!r}."
        )
    num_train = whole_number("num_train", num_train, minimum=1)
    train = rows_with_flags(model, train, "train")
    test = rows_with_flags(model, test, "test")
    modalities, names = model.modalities, model.modality_names
    mask = membership_mask(len(names))[:-1]  # [S, M], without the full set
    pairs = np.argwhere(~mask).tolist()  # (row, target)
    constants = [_constant(modality, train) for modality in modalities]
    reductions, ridges = _fit_ridges(model, train, num_train, progress)
    best = {(row, target): _best(ridges, mask[row], target) for row, target in pairs}
    sums, totals = np.zeros([*mask.shape, 3]), np.zeros(mask.shape)
    for batch in progress(ordered_batches(test, batch_size)):
        z = _subset_means(model, batch, mask, posterior)  # [B, S, D]
        present = presence(model, batch)  # [B, M]
        actual = [_filled(batch[n].numpy(), flag) for n, flag in zip(names, present.T)]
        fixed = [_errors(*three) for three in zip(modalities, actual, constants)]
        regressed: dict[Any, np.ndarray] = {None: np.full(len(present), np.nan)}
        for source, reduction in reductions.items():
            features = reduction.transform(_inputs(modalities[source], actual[source]))
            for target in (t for s, t in ridges if s == source):
                predicted = ridges[source, target][1].predict(features)
                regressed[source, target] = _errors(
                    modalities[target], actual[target], predicted
                )
        for row, target in pairs:
            decoded = model.decode_modality(names[target], z[:, row]).numpy()
            errors = [
                _errors(modalities[target], actual[target], decoded),
                fixed[target],
                regressed[best[row, target]],
            ]  # [3, B]
            kept = present[:, mask[row]].all(axis=1) & present[:, target]
            sums[row, target] += np.sum(errors, axis=1, where=kept)
            totals[row, target] += kept.sum()
    results: dict[str, dict[str, dict[str, float | None]]] = {}
    for row, target in pairs:
        power = 0.5 if modalities[target].num_classes is None else 1.0
        means = divided(sums[row, target], totals[row, target]) ** power
        result = dict(zip(("model", "mean", "ridge"), means.tolist()))
        if best[row, target] is None:
            result["ridge"] = None
        results.setdefault(subset_names(names)[row], {})[names[target]] = result
    return results


def _filled(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The values, with 0 in rows where they are missing; uint8 in [0, 1]."""
    values = values / np.float32(255) if values.dtype == np.uint8 else values
    where = present.reshape([-1] + [1] * (values.ndim - 1))
    return np.where(where, values, values.dtype.type(0))


def _inputs(modality: Modality, values: np.ndarray) -> np.ndarray:
    """Inputs of a regression, `[B, F]`; class indices become one-hot."""
    if modality.num_classes is not None:
        values = np.eye(modality.num_classes, dtype=np.float32)[values.astype(int)]
    return values.reshape(len(values), -1)


def _errors(modality: Modality, actual, predicted):
    """Mean squares over elements, or fractions of wrong symbols, `[B]`."""
    if modality.num_classes is None:
        elements = np.square(predicted.reshape([-1, *modality.event_shape]) - actual)
    else:
        if predicted.ndim > actual.ndim:
            predicted = np.argmax(predicted, axis=-1)
        elements = predicted != actual
    return elements.reshape(len(actual), -1).mean(axis=1, dtype=np.float64)


def _constant(modality: Modality, train):
    """Mean or most frequent symbol at every position, `[1, *event_shape]`."""
    array, present = train[modality.name], train["present"][modality.name]
    if not present.any():
        raise ValueError(
            f"`train` must have rows of {modality.name!r}. Received: none."
        )
    if modality.num_classes is not None:
        symbols = range(modality.num_classes)
        counts = [np.sum(array[present] == symbol, axis=0) for symbol in symbols]
        return np.argmax(counts, axis=0)[np.newaxis]
    where = present.reshape([-1] + [1] * (array.ndim - 1))
    mean = np.mean(array, axis=0, keepdims=True, where=where, dtype=np.float64)
    return mean / 255 if array.dtype == np.uint8 else mean


def _fit_ridges(model, train, num_train, progress):
    """Ridge regressions of each modality on each other one.

    Returns:
      Source to the transformer of its inputs; (source, target) to the leave-one-out
      score and the fitted ridge regression.
    """
    present = presence(model, train)[:num_train]  # [N, M]
    first = [train[name][:num_train] for name in model.modality_names]
    values = [_filled(array, flag) for array, flag in zip(first, present.T)]
    reductions, ridges = {}, {}
    for source in progress(range(len(values))):
        rows = present[:, source]
        if not rows.any():
            continue
        inputs = _inputs(model.modalities[source], values[source])[rows]
        steps: list[Any] = [StandardScaler()]
        if inputs.shape[1] > MAX_INPUTS:
            steps.append(PCA(min(MAX_INPUTS, len(inputs)), random_state=0))
        reductions[source] = make_pipeline(*steps)
        features = reductions[source].fit_transform(inputs)
        for target, modality in enumerate(model.modalities):
            both = present[rows, target]
            if target != source and modality.num_classes is None and both.sum() > 1:
                outputs = values[target][rows][both].reshape(both.sum(), -1)
                width = outputs.shape[1]
                some = np.linspace(0, width - 1, min(width, MAX_OUTPUTS)).astype(int)
                chosen = RidgeCV(ALPHAS).fit(features[both], outputs[:, some])
                ridge = Ridge(chosen.alpha_).fit(features[both], outputs)
                ridges[source, target] = chosen.best_score_, ridge
    return reductions, ridges


def _best(ridges, members: np.ndarray, target: int) -> tuple[int, int] | None:
    """(source, target) with the smallest leave-one-out error; None without any."""
    fitted = [(s, t) for s, t in ridges if members[s] and t == target]
    return max(fitted, key=lambda key: ridges[key][0], default=None)


def _subset_means(model, batch, mask, posterior) -> tf.Tensor:
    """Mean of each subset's posterior, `[B, S, D]`."""
    loc = model.subset_posteriors(batch).loc[:, : len(mask)]
    if posterior == "product":
        return loc
    within = subsets_within(mask)  # [S, S]
    weights = within / within.sum(axis=1, keepdims=True)
    return tf.linalg.matmul(tf.constant(weights, loc.dtype), loc)


def divided(sums: np.ndarray, count: float) -> np.ndarray:
    """The sums divided by a count; NaN if the count is 0."""
    return sums / count if count else np.full_like(sums, np.nan)
