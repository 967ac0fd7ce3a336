"""Coverage of the predictive intervals of imputed elements."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data import ordered_batches
from tf_mopoe.distributions import LIKELIHOODS, noise
from tf_mopoe.distributions.likelihoods import ONE_HOT
from tf_mopoe.metrics.imputation import divided
from tf_mopoe.metrics.incomplete_rows import presence, rows_with_flags
from tf_mopoe.metrics.seeds import checked_seed
from tf_mopoe.modality import Modality
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import subset_indices


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
    """Fraction of imputed elements inside their central predictive intervals.

    For a subset S and a target t not in it, every element is drawn K times: z from the
    product of experts of S, s_t from the prior, x_t ~ p(x_t | z, s_t). The interval of
    a level is from the r-th smallest draw to the r-th largest, including both,

        r = floor((K + 1) (1 - level) / 2).

    If the model is correct, it contains a continuous element with probability
    1 - 2 r / (K + 1), the level or slightly more; a discrete one at least as often.

    Class indices and one-hot columns have no order and are left out. Only rows in which
    the target and the whole subset are present count; results are NaN if there are
    none.

    Args:
      model: Model of at most 12 modalities.
      data: All modalities by name, `[N, *event_shape]`; optionally `"present"`:
        modality name to bool `[N]`.
      subsets: Lists of names of given modalities; by default each modality alone, and
        all but one.
      levels: Levels of the intervals, each in (0, 1).
      num_samples: K, number of draws.
      max_rows: Number of rows used, the first ones; None for all.
      seed: Seed of the draws.
      batch_size: Number of rows at a time; K times as many are decoded at once.
      progress: Wrapper of the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to level as text (`"0.9"`) to
      `{"coverage", "width"}`: the fraction of elements inside, and the mean width in
      units of the data.

    Raises:
      TypeError: If an array does not hold numbers, or a flag is not bool.
      ValueError: If K is too small for a level, a subset leaves out no modality, or the
        data do not fit the model.

    Example:
      >>> from tf_mopoe import MoPoEVAE
      >>> model = MoPoEVAE([Modality("a", (3,)), Modality("b", (1,))], 2, seed=0)
      >>> rows = {"a": np.zeros([4, 3], "f"), "b": np.full([4, 1], 99.0, "f")}
      >>> table = interval_coverage(model, rows, levels=[0.9], num_samples=39)
      >>> table["a"]["b"]["0.9"]["coverage"]  # 99 is never inside
      0.0
    """
    num_samples = whole_number("num_samples", num_samples, minimum=1)
    if max_rows is not None:
        max_rows = whole_number("max_rows", max_rows, minimum=1)
    base = noise.stateless_seed(checked_seed(seed))
    ranks = np.array([_rank(level, num_samples) for level in levels])
    rows, names = rows_with_flags(model, data, "data"), model.modality_names
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
        products, present = model.subset_posteriors(batch), presence(model, batch)
        for index, (subset, target) in enumerate(pairs):
            kept = np.logical_and.reduce(present[:, [*subset, target]], axis=1)  # [B]
            product = [field[:, every.index(subset)] for field in products]
            pair_seed = noise.fold_in(noise.fold_in(base, step), index)
            draws = _draws(model, target, product, num_samples, pair_seed)
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
    for (subset, target), by_level, total in zip(pairs, sums, totals):
        name = "+".join(names[member] for member in subset)
        results.setdefault(name, {})[names[target]] = {
            f"{level:g}": dict(zip(("coverage", "width"), divided(x, total).tolist()))
            for level, x in zip(levels, by_level)
        }
    return results


def _draws(model, target, product, num_samples, seed) -> np.ndarray:
    """Draws of x_t `[K, B, ...]`, given the subset's loc and log_scale `[B, D]`."""
    loc, log_scale = product
    seeds, style = noise.split_seed(seed, 3), None
    unit = noise.standard_normal([num_samples, *loc.shape], seeds[0], loc.dtype)
    if model.modalities[target].style_dim:
        shape = [num_samples, len(loc), model.modalities[target].style_dim]
        style = noise.standard_normal(shape, seeds[1], loc.dtype)
    z, name = loc + tf.exp(log_scale) * unit, model.modality_names[target]
    return model.likelihood(name, z, style).sample(seed=seeds[2]).numpy()


def _rank(level: float, num_samples: int) -> int:
    """r: the r-th smallest and largest draws bound the interval, r from 1."""
    tail = (1 - level) / 2
    rank = math.floor((num_samples + 1) * tail + 1e-9)  # 10 is 9.999... in binary
    if not (0 < level < 1 and rank >= 1):
        raise ValueError(
            "`levels` must be in (0, 1), `num_samples` at least 2 / (1 - level) - 1. "
            f"Received: level {level!r} and num_samples {num_samples!r}."
        )
    return rank


def _listed_subsets(names, subsets) -> tuple[tuple[int, ...], ...]:
    """Subsets as tuples of indices."""
    if subsets is None:
        sizes = {1, len(names) - 1} - {len(names)}
        return tuple(s for s in subset_indices(len(names)) if len(s) in sizes)
    for subset in subsets:
        if isinstance(subset, str) or not set() < {*subset} < {*names}:
            raise ValueError(
                f"Each of `subsets` must list some of {list(names)}, and leave out at "
                f"least one to impute, such as [[{names[0]!r}]]. Received: {subset!r}."
            )
    return subset_indices(len(names), [[names.index(m) for m in s] for s in subsets])


def _ordered_elements(modality: Modality) -> np.ndarray:
    """bool `[elements]`: False for class indices and one-hot columns."""
    spec = modality.likelihood
    if isinstance(spec, str):
        spec = [(spec, math.prod(modality.event_shape))]
    kinds = [LIKELIHOODS[name] for name, _ in spec]
    ordered = [not kind.integer and kind.support is not ONE_HOT for kind in kinds]
    return np.repeat(ordered, [width for _, width in spec])
