"""Imputation: how far off it is, beside simple baselines, and how honest its spread."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tf_mopoe.data import ordered_batches
from tf_mopoe.distributions import LIKELIHOODS, noise
from tf_mopoe.distributions.likelihoods import ONE_HOT
from tf_mopoe.metrics.coherence import SUBSET_POSTERIORS
from tf_mopoe.modality import Modality
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import membership_mask, subset_indices, subset_names

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
    train, test = _rows(model, train, "train"), _rows(model, test, "test")
    modalities, names = model.modalities, model.modality_names
    mask = membership_mask(len(names))[:-1]  # [S, M], without the full set
    pairs = np.argwhere(~mask).tolist()  # (row, target)
    constants = [_constant(modality, train) for modality in modalities]
    reductions, ridges = _fit_ridges(model, train, num_train, progress)
    best = {(row, target): _best(ridges, mask[row], target) for row, target in pairs}
    sums, totals = np.zeros([*mask.shape, 3]), np.zeros(mask.shape)
    for batch in progress(ordered_batches(test, batch_size)):
        z, here = _subset_means(model, batch, mask, posterior), _presence(model, batch)
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
        means = _divided(sums[row, target], totals[row, target]) ** power
        found = dict(zip(("model", "mean", "ridge"), means.tolist()))
        if best[row, target] is None:
            found["ridge"] = None
        results.setdefault(subset_names(names)[row], {})[names[target]] = found
    return results


def _rows(model, data, argument) -> dict[str, Any]:
    """The model's modalities, as arrays, with a flag for each."""
    names = model.modality_names
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(
            f"`{argument}` must hold all modalities {list(names)}; mark missing rows "
            f"with `present` flags. Received none of: {missing}."
        )
    flags = data.get("present") or {}
    ones = np.ones(len(data[names[0]]), bool)
    present = {name: np.asarray(flags.get(name, ones)) for name in names}
    return {**{name: np.asarray(data[name]) for name in names}, "present": present}


def _presence(model, rows):
    """bool `[N, M]`."""
    return np.stack([rows["present"][name] for name in model.modality_names], axis=1)


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
    here = _presence(model, train)[:num_train]
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


def _divided(sums: np.ndarray, count: float) -> np.ndarray:
    return sums / count if count else np.full_like(sums, np.nan)


def interval_coverage(
    model: MultimodalVAE,
    data: Mapping[str, Any],
    *,
    subsets: Sequence[Sequence[str]] | None = None,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    num_samples: int = 200,
    max_rows: int | None = 200,
    seed: int = 0,
    batch_size: int = 16,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """How often the central predictive intervals of imputed elements hold them.

    For a subset S and a target t not in it, K draws of every element: z from S's
    product of experts, s_t from the prior, x_t ~ p(x_t | z, s_t). The interval of a
    level goes from the r-th smallest draw to the r-th largest, ends included,

        r = floor((K + 1) (1 - level) / 2),

    and where the model is right it holds a continuous element with probability
    1 - 2 r / (K + 1), the level or barely more; a discrete one at least as often.

    Class indices and one-hot columns have no order and are left out. Rows count in
    which the target and the whole subset are present; nan where there are none.

    Args:
      model: The model, of at most 12 modalities.
      data: All modalities by name, `[N, *event_shape]`; optionally `"present"`.
      subsets: Names of the modalities of each; by default each modality alone, and all
        but one.
      levels: Of the intervals, each in (0, 1).
      num_samples: K.
      max_rows: Rows used, the first ones; None: all.
      seed: Of the draws.
      batch_size: Rows at a time; K times as many are decoded at once.
      progress: Wraps the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to level as text (`"0.9"`) to
      `{"coverage", "width"}`: the share of elements inside, and the mean width.

    Raises:
      ValueError: If K is too small for a level, or a subset leaves out no modality.
    """
    ranks = np.array([_rank(level, num_samples) for level in levels])
    rows, names = _rows(model, data, "data"), model.modality_names
    rows = tf.nest.map_structure(lambda array: array[:max_rows], rows)
    ordered = [_ordered_elements(modality) for modality in model.modalities]
    pairs = [
        (subset, target)
        for subset in _listed_subsets(names, subsets)
        for target in range(len(names))
        if target not in subset and ordered[target].any()
    ]
    every = subset_indices(len(names))
    sums, totals = np.zeros([len(pairs), len(levels), 2]), np.zeros(len(pairs))
    for step, batch in enumerate(progress(ordered_batches(rows, batch_size))):
        products, here = model.subset_posteriors(batch), _presence(model, batch)
        for index, (subset, target) in enumerate(pairs):
            kept = here[:, [*subset, target]].all(axis=1)  # [B]
            product = [field[:, every.index(subset)] for field in products]
            own_seed = noise.fold_in(tf.constant([seed, step]), index)
            draws = _draws(model, target, product, num_samples, own_seed)
            draws = draws.reshape(num_samples, len(kept), -1)[:, kept]
            draws = draws[..., ordered[target]]  # [K, B, F]
            draws.sort(axis=0)
            low, high = draws[ranks - 1], draws[num_samples - ranks]  # [levels, B, F]
            actual = batch[names[target]].numpy().reshape(len(kept), -1)[kept]
            actual = actual[:, ordered[target]].astype(draws.dtype)
            inside = (low <= actual) & (actual <= high)
            sums[index, :, 0] += inside.sum(axis=(1, 2))
            sums[index, :, 1] += (high - low).sum(axis=(1, 2))
            totals[index] += actual.size
    results: dict[str, dict[str, Any]] = {}
    for (subset, target), own, total in zip(pairs, sums, totals):
        name = "+".join(names[member] for member in subset)
        results.setdefault(name, {})[names[target]] = {
            f"{level:g}": dict(zip(("coverage", "width"), _divided(x, total).tolist()))
            for level, x in zip(levels, own)
        }
    return results


def _draws(model, target, product, num_samples, seed) -> np.ndarray:
    """x_t given the subset's product, loc and log_scale `[B, D]`: `[K, B, ...]`."""
    loc, log_scale = product
    seeds, style = noise.split_seed(seed, 3), None
    unit = noise.standard_normal([num_samples, *loc.shape], seeds[0], loc.dtype)
    if model.modalities[target].style_dim:
        shape = [num_samples, len(loc), model.modalities[target].style_dim]
        style = noise.standard_normal(shape, seeds[1], loc.dtype)
    z, name = loc + tf.exp(log_scale) * unit, model.modality_names[target]
    return model.likelihood(name, z, style).sample(seed=seeds[2]).numpy()


def _rank(level: float, num_samples: int) -> int:
    """Which smallest and largest draw bound the interval, from 1."""
    tail = (1 - level) / 2
    rank = math.floor((num_samples + 1) * tail + 1e-9)  # 10 is 9.999... in binary
    if not (0 < level < 1 and rank >= 1):
        raise ValueError(
            "`levels` must be in (0, 1), `num_samples` at least 2 / (1 - level) - 1. "
            f"Received: level {level!r} and num_samples {num_samples!r}."
        )
    return rank


def _listed_subsets(names, subsets) -> tuple[tuple[int, ...], ...]:
    """The subsets by index."""
    if subsets is None:
        sizes = {1, len(names) - 1} - {len(names)}
        return tuple(s for s in subset_indices(len(names)) if len(s) in sizes)
    for subset in subsets:
        if isinstance(subset, str) or not set() < {*subset} < {*names}:
            raise ValueError(
                f"`subsets` must list some of {list(names)} each, and leave out one or "
                f"more to impute, such as [[{names[0]!r}]]. Received: {subset!r}."
            )
    return subset_indices(len(names), [[names.index(m) for m in s] for s in subsets])


def _ordered_elements(modality: Modality) -> np.ndarray:
    """bool `[elements]`: which have an order, neither indices nor one-hot columns."""
    spec = modality.likelihood
    if isinstance(spec, str):
        spec = [(spec, math.prod(modality.event_shape))]
    kinds = [LIKELIHOODS[name] for name, _ in spec]
    ordered = [not kind.integer and kind.support is not ONE_HOT for kind in kinds]
    return np.repeat(ordered, [width for _, width in spec])
