"""How often predictive intervals of imputed elements hold what they should."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number
from tf_mopoe.data import ordered_batches
from tf_mopoe.distributions import LIKELIHOODS, noise
from tf_mopoe.distributions.likelihoods import ONE_HOT
from tf_mopoe.metrics.holed_rows import holed_rows, presence
from tf_mopoe.metrics.imputation import divided
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
      levels: Levels of the intervals, each in (0, 1).
      num_samples: K.
      max_rows: Rows used, the first ones; None: all.
      seed: Seed of the draws.
      batch_size: Rows at a time; K times as many are decoded at once.
      progress: Wraps the iterable of batches, e.g. `tqdm.tqdm`.

    Returns:
      Subset name (`"m0+m1"`) to target name to level as text (`"0.9"`) to
      `{"coverage", "width"}`: the share of elements inside, and the mean width.

    Raises:
      ValueError: If K is too small for a level, or a subset leaves out no modality.
    """
    num_samples = whole_number("num_samples", num_samples, minimum=1)
    if max_rows is not None:
        max_rows = whole_number("max_rows", max_rows, minimum=1)
    base = noise.stateless_seed(checked_seed(seed))
    ranks = np.array([_rank(level, num_samples) for level in levels])
    rows, names = holed_rows(model, data, "data"), model.modality_names
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
        products, here = model.subset_posteriors(batch), presence(model, batch)
        for index, (subset, target) in enumerate(pairs):
            kept = here[:, [*subset, target]].all(axis=1)  # [B]
            product = [field[:, every.index(subset)] for field in products]
            own_seed = noise.fold_in(noise.fold_in(base, step), index)
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
            f"{level:g}": dict(zip(("coverage", "width"), divided(x, total).tolist()))
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
