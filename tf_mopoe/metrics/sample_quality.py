"""Sample quality: are generated values distributed as the real ones are?

Features of both are compared, so numbers are comparable only under one feature model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from tf_mopoe.checks import whole_number
from tf_mopoe.data import num_rows, ordered_batches
from tf_mopoe.data.checks import plain_array, plain_rows
from tf_mopoe.distributions import noise
from tf_mopoe.metrics.classifiers import classifier_inputs
from tf_mopoe.metrics.seeds import checked_seed
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.subsets import membership_mask

#: From a batch of values as classifiers see them to features `[B, F]`.
FeatureModel = Callable[[Any], Any]


class PrecisionRecall(NamedTuple):
    """The best precision for each recall, along the angles of a curve `[A]`.

    Attributes:
      precision: Share of the generated rows that look real.
      recall: Share of the real rows that are generated.
    """

    precision: np.ndarray
    recall: np.ndarray


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of two Gaussians with the samples' moments.

    |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

    With S_i = R_i^T R_i the root's trace is the sum of the singular values of
    R_1 R_2^T, also for singular S_i. Few rows bias it upwards: compare equal numbers.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017.

    Args:
      features: Finite, `[N, F]`, N at least 2.
      reference: `[N', F]`.

    Returns:
      The distance in float64, 0 or more, in squared units of the features.

    Raises:
      ValueError: If an argument is not as described.
    """
    arrays = _checked_features(features, reference, at_least=2)
    means = [array.mean(axis=0) for array in arrays]
    factors: list[Any] = [
        np.linalg.qr((array - mean) / np.sqrt(len(array) - 1), mode="r")
        for array, mean in zip(arrays, means)
    ]  # [min(N, F), F]
    root = np.linalg.norm(factors[0] @ factors[1].T, "nuc")
    variances = sum(np.sum(np.square(factor)) for factor in factors)
    distance = np.sum(np.square(means[0] - means[1])) + variances - 2 * root
    return max(0.0, float(distance))


def precision_recall_distribution(
    features: np.ndarray,
    reference: np.ndarray,
    *,
    num_clusters: int = 20,
    num_angles: int = 1001,
    num_runs: int = 10,
    seed: int = 0,
) -> PrecisionRecall:
    """Precision and recall of the generated histogram q over clusters, the real one p.

    precision(l) = sum_k min(l p_k, q_k),  recall(l) = sum_k min(p_k, q_k / l)

    for the slopes l = tan of angles evenly inside (0, 90) degrees. Clusters are k-means
    of both sets together; curves are averaged over runs of it.

    Source: Sajjadi et al., Assessing Generative Models via Precision and Recall,
    NeurIPS 2018.

    Args:
      features: Of generated rows, finite, `[N, F]`.
      reference: Of real rows, `[N', F]`. Of the larger set N - N' rows are left out.
      num_clusters: At most the rows of both sets together.
      num_angles: A. Odd: precision and recall at 45 degrees are equal.
      num_runs: Of k-means.
      seed: Of the rows left out and of k-means.

    Raises:
      TypeError, ValueError: If an argument is not as described.
    """
    generated, real = _checked_features(features, reference, at_least=1)
    num_angles = whole_number("num_angles", num_angles, minimum=1)
    num_runs = whole_number("num_runs", num_runs, minimum=1)
    seed = checked_seed(seed)
    size = min(len(generated), len(real))
    if whole_number("num_clusters", num_clusters, minimum=1) > 2 * size:
        raise ValueError(
            f"`num_clusters` must be at most {2 * size}, the rows compared of both "
            f"sets. Received: {num_clusters}."
        )
    rng = np.random.default_rng(seed)
    union = np.concatenate(
        [rng.permutation(array)[:size] for array in (generated, real)]
    )
    slopes = np.tan(np.linspace(0, np.pi / 2, num_angles + 2)[1:-1, np.newaxis])
    curves = []
    for state in rng.integers(2**31, size=num_runs):
        kmeans = MiniBatchKMeans(num_clusters, n_init=3, random_state=int(state))
        with threadpool_limits(1):  # its threads wait for one another on busy cores
            labels = kmeans.fit_predict(union)
        q, p = (
            np.bincount(part, minlength=num_clusters) / size
            for part in (labels[:size], labels[size:])
        )
        precision = np.minimum(slopes * p, q).sum(axis=-1)
        curves.append((precision, precision / slopes[:, 0]))
    return PrecisionRecall(*np.mean(curves, axis=0))


def max_f_beta(curve: PrecisionRecall, beta: float) -> float:
    """The curve's largest F_beta, (1 + beta^2) p r / (beta^2 p + r), in [0, 1].

    Args:
      curve: Of `precision_recall_distribution`.
      beta: Positive; 8 weighs recall, 1/8 precision.
    """
    precision, recall = curve
    above = (1 + beta**2) * precision * recall
    below = beta**2 * precision + recall
    return float(np.max(np.divide(above, below, out=0 * above, where=below > 0)))


def sample_quality(
    model: MultimodalVAE,
    data: Mapping[str, np.ndarray],
    feature_models: Mapping[str, FeatureModel],
    *,
    given: Sequence[str] | None = None,
    num_samples: int = 1000,
    latents: np.ndarray | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, dict[str, float]]:
    """Compares features of generated modalities with those of all rows of `data`.

    Generated are the likelihoods' means for one z a row and styles from their prior.

    Args:
      model: The model.
      data: Modality name to `[N, *event_shape]`, complete; uint8 or as in training.
      feature_models: Modality name to a function from values as `classifier_inputs`
        makes them to features `[B, F]`; such as a Keras model. Only these modalities
        are generated; of them, only those not given.
      given: Names of modalities: z is from their product of experts, of rows of `data`
        chosen at random. None: z is from the prior, or from `latents`.
      num_samples: Rows to generate; at most N where modalities are given.
      latents: `[num_samples, D]` in place of draws from the prior; their number counts.
      seed: Seed of all draws.
      batch_size: Rows at a time; no result depends on it.
      progress: Wraps the iterables of the real and of the generated batches.

    Returns:
      Modality name to `frechet_distance`; `f8` and `f1_8`, the largest F_8 (recall) and
      F_1/8 (precision) of the curve of precision and recall; `num_samples`.

    Raises:
      TypeError, ValueError: If an argument is not as described.
    """
    targets = _targets(model, data, feature_models, given, latents)
    needed = {*targets, *(given or ())}
    data = plain_rows("data", {name: data[name] for name in data if name in needed})
    batch_size = whole_number("batch_size", batch_size, minimum=1)
    num_samples = whole_number("num_samples", num_samples, minimum=2)
    seed = checked_seed(seed)
    z_seed, style_seed = noise.split_seed(noise.stateless_seed(seed))
    if given is not None:
        rows = np.random.default_rng(seed).permutation(num_rows(data))[:num_samples]
        values = {name: np.asarray(data[name])[rows] for name in given}
        z = _product_samples(model, values, batch_size, z_seed)
    elif latents is None:
        z = _normal(model, [num_samples, model.latent_dim], z_seed)
    else:
        z = _checked_latents(model, latents)
    styles = {
        modality.name: _normal(
            model, [len(z), modality.style_dim], noise.fold_in(style_seed, index)
        )
        for index, modality in enumerate(model.modalities)
        if modality.style_dim and modality.name in targets
    }

    def decode(z, styles):
        return {
            name: model.decode_modality(name, z, styles.get(name)) for name in targets
        }

    latent_batches = ordered_batches({"z": z, "styles": styles}, batch_size)
    real_batches = ordered_batches({name: data[name] for name in targets}, batch_size)
    generated = _features(
        model, feature_models, (decode(**batch) for batch in progress(latent_batches))
    )
    real = _features(model, feature_models, progress(real_batches))
    return {name: _scores(generated[name], real[name], seed) for name in targets}


def inception_features(weights: str | None = "imagenet") -> FeatureModel:
    """Features of images for the Fréchet Inception distance, `[B, 2048]`.

    The network is Keras's, not that of published numbers: compare within this library.

    Args:
      weights: `"imagenet"`, which Keras downloads; a file of `InceptionV3`'s weights
        without its top; None: random ones.

    Returns:
      A function from images `[B, height, width, 1 or 3]`, clipped to [0, 1].
    """
    network = keras.applications.InceptionV3(
        weights=weights, include_top=False, pooling="avg"
    )

    def features(images):
        images = tf.clip_by_value(tf.cast(images, tf.float32), 0.0, 1.0)
        images = tf.image.resize(images, [299, 299], antialias=True)
        images = tf.broadcast_to(images, [*images.shape[:3], 3])
        preprocess = keras.applications.inception_v3.preprocess_input
        return network(preprocess(255.0 * images), training=False)

    return features


def _scores(generated: np.ndarray, real: np.ndarray, seed: int) -> dict[str, float]:
    clusters = min(20, 2 * min(len(generated), len(real)))
    curve = precision_recall_distribution(
        generated, real, num_clusters=clusters, seed=seed
    )
    return {
        "frechet_distance": frechet_distance(generated, real),
        "f8": max_f_beta(curve, 8),
        "f1_8": max_f_beta(curve, 1 / 8),
        "num_samples": len(generated),
    }


def _features(model, feature_models, batches) -> dict[str, np.ndarray]:
    """Modality name to features `[N, F]`, of batches of values by modality name."""
    classes = {modality.name: modality.num_classes for modality in model.modalities}
    found: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        for name, values in batch.items():
            inputs = classifier_inputs(values, num_symbols=classes[name])
            features = np.asarray(feature_models[name](inputs))
            if features.ndim != 2 or len(features) != len(values):
                raise ValueError(
                    f"`feature_models[{name!r}]` must return features "
                    f"{(len(values), 'F')}. Received: shape {features.shape}."
                )
            found.setdefault(name, []).append(features)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _product_samples(model, values, batch_size, seed) -> np.ndarray:
    """One z a row from the product of all modalities in `values`: `[N, D]`."""
    names = model.modality_names
    subset = [name in values for name in names]
    row = np.flatnonzero((membership_mask(len(names)) == subset).all(axis=1)).item()
    parts = [
        [field[:, row] for field in model.subset_posteriors(batch)]
        for batch in ordered_batches(values, batch_size)
    ]
    loc, log_scale = (np.concatenate(fields) for fields in zip(*parts))
    return loc + np.exp(log_scale) * _normal(model, loc.shape, seed).numpy()


def _normal(model, shape, seed) -> tf.Tensor:
    return noise.standard_normal(shape, seed, tf.as_dtype(model.latent_dtype))


def _targets(model, data, feature_models, given, latents) -> list[str]:
    """The modalities to generate; checks the names."""
    names = set(model.modality_names)
    if given is not None and (
        isinstance(given, str) or not given or not set(given) <= names
    ):
        raise ValueError(
            f"`given` must list names among {sorted(names)}, or be None. "
            f"Received: {given!r}."
        )
    if given is not None and latents is not None:
        raise ValueError("`given` and `latents` exclude one another. Leave one out.")
    targets = [name for name in feature_models if name not in (given or ())]
    if not targets or not set(feature_models) <= names:
        raise ValueError(
            f"`feature_models` must be of modalities among {sorted(names)}, one at "
            f"least not given. Received: {sorted(feature_models)}, given: {given!r}."
        )
    needed = {*targets, *(given or ())}
    if not needed <= set(data) or "present" in data:
        raise ValueError(
            f"`data` must hold {sorted(needed)}, complete, without flags `present`: "
            f"select the complete rows. Received: {sorted(data)}."
        )
    return targets


def _checked_latents(model, latents) -> np.ndarray:
    z = plain_array("latents", latents).astype(model.latent_dtype)
    if z.ndim != 2 or z.shape[1] != model.latent_dim or len(z) < 2:
        raise ValueError(
            f"`latents` must have shape {('N', model.latent_dim)}, N from 2. "
            f"Received: {z.shape}."
        )
    return z


def _checked_features(features, reference, *, at_least: int) -> list[np.ndarray]:
    """Both in float64, `[N, F]` and `[N', F]`."""
    arrays = [
        plain_array(name, array).astype(np.float64)
        for name, array in (("features", features), ("reference", reference))
    ]
    shapes = [array.shape for array in arrays]
    if any(len(s) != 2 or s[0] < at_least for s in shapes) or (
        shapes[0][1:] != shapes[1][1:]
    ):
        raise ValueError(
            "`features` and `reference` must have shapes [N, F] and [N', F], N and N' "
            f"at least {at_least}. Received: {shapes[0]} and {shapes[1]}."
        )
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(
            "`features` and `reference` must be finite. Received: NaN or infinity; "
            "look at the feature model and the values it gets."
        )
    return arrays
