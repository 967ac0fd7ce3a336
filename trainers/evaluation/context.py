"""What an evaluation measures with: a model, its data, judges, latents from priors."""

import functools
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainers.config.train_config import TrainConfig
from trainers.errors import UsageError
from trainers.recipes.recipe import LabelledData, Recipe, Split
from trainers.runs.atomic_files import replacing
from trainers.runs.run_folder import RunFolder

if TYPE_CHECKING:
    import keras

    from tf_mopoe.models import MultimodalVAE

#: What is reported of one metric.
Entry = dict[str, Any]
#: Rows of the training split that the aggregate posterior is fitted on, at most.
MAX_POSTERIOR_ROWS = 10_000
#: Fewer say nothing about a flow.
MIN_FLOW_ROWS = 100
#: Components of its Gaussian mixture, at most; each has 100 rows or more.
NUM_COMPONENTS = 50


class Options(NamedTuple):
    """What the user may choose.

    Attributes:
      seed: Seed of all draws.
      rows: At most so many rows of the split, the first ones; None: all of them, but
        fewer where a row costs much.
      num_samples: K of log-likelihoods, and number of draws from the prior.
      num_train: Training rows of a linear probe; None: all.
      features: A Keras model that sample quality takes features of images from; None:
        the classifiers.
      fitted_priors: Whether joint draws are also from fits of the posteriors.
    """

    seed: int = 0
    rows: int | None = None
    num_samples: int = 1000
    num_train: int | None = 500
    features: str | None = None
    fitted_priors: bool = True


class Evaluation:
    """A model, the split it is measured on, and what is made for that, once."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        config: TrainConfig,
        model: "MultimodalVAE",
        *,
        split: Split = "test",
        options: Options | None = None,
        like: "Evaluation | None" = None,
    ):
        """Loads the split; the training split and classifiers follow when asked for.

        Those of `like`, an evaluation of the same run and split, are taken over.
        """
        self.run, self.recipe, self.config, self.model = run, recipe, config, model
        self.split: Split = split
        self.options = options or Options()
        self.data: LabelledData
        if like is None:
            self.data = first_rows(recipe.load_data(config, split), self.options.rows)
        else:
            self.data, self.train = like.data, like.train
            self.classifiers = like.classifiers

    @functools.cached_property
    def own_features(self) -> dict[str, Callable]:
        """The user's feature model for each image modality, tried on two rows.

        Raises:
          UsageError: If it can't be loaded, or does not take the images.
        """
        path = self.options.features
        if path is None:
            return {}
        import tensorflow as tf

        features = _load_features(path)
        images = [m for m in self.model.modalities if len(m.event_shape) == 3]
        for modality in images:
            try:
                found = features(tf.zeros([2, *modality.event_shape]))
                shape = tuple(found.shape)
            except (AttributeError, TypeError, ValueError, tf.errors.OpError) as error:
                raise UsageError(
                    f"--features: {path} does not take {modality.name!r}, images "
                    f"[B, {', '.join(map(str, modality.event_shape))}]. "
                    f"({str(error).splitlines()[0]})"
                ) from None
            if len(shape) != 2:
                raise UsageError(
                    f"--features: {path} must return features [B, F]. "
                    f"Received: shape {shape}."
                )
        return {modality.name: features for modality in images}

    @property
    def num_posterior_rows(self) -> int:
        """Training rows whose posteriors the priors are fitted to."""
        return min(MAX_POSTERIOR_ROWS, len(self.train.labels))

    @functools.cached_property
    def train(self) -> LabelledData:
        """The training split, which not every metric needs."""
        return self.recipe.load_data(self.config, "train")

    @property
    def num_rows(self) -> int:
        """Number of rows that are measured."""
        return len(self.data.labels)

    @property
    def has_attributes(self) -> bool:
        """Whether labels are flags of several attributes, not classes."""
        return self.recipe.num_classes is None

    def num_symbols(self, name: str) -> int | None:
        """Number of symbols of a text; None of another modality."""
        index = self.model.modality_names.index(name)
        return self.model.modalities[index].num_classes

    @functools.cached_property
    def classifiers(self) -> dict[str, "keras.Model"]:
        """One classifier for each modality, kept in RUN/classifiers."""
        import keras

        from tf_mopoe.metrics import train_classifier

        found = {}
        folder = self.run.classifiers
        folder.mkdir(exist_ok=True)
        missing = []
        for name in self.model.modality_names:
            path = folder / f"{name}.keras"
            try:
                found[name] = keras.saving.load_model(path)
            except (OSError, ValueError, zipfile.BadZipFile):
                missing.append(name)  # not there, or damaged: trained anew
        for name in progress("training classifiers")(missing):
            found[name] = train_classifier(
                self.train.modalities[name],
                self.train.labels,
                num_classes=self.recipe.num_classes,
                num_symbols=self.num_symbols(name),
                seed=self.config.seed,
                name=f"{name}_classifier",
            )
            with replacing(folder / f"{name}.keras") as temporary:
                found[name].save(temporary)
        return {name: found[name] for name in self.model.modality_names}

    @functools.cached_property
    def feature_models(self) -> dict[str, Callable]:
        """Modality name to what gives features of its values."""
        from tf_mopoe.metrics import classifier_features

        features = {
            name: classifier_features(classifier)
            for name, classifier in self.classifiers.items()
        }
        return features | self.own_features

    @functools.cached_property
    def priors(self) -> dict[str, np.ndarray]:
        """Draws of z `[N, D]` from the prior, and from two fits of all posteriors."""
        from tf_mopoe.metrics import (
            aggregate_posterior_samples,
            fit_flow,
            fit_gaussian_mixture,
        )

        options, model = self.options, self.model
        shape = (options.num_samples, model.latent_dim)
        drawn = {"prior": np.random.default_rng(options.seed).normal(size=shape)}
        if not options.fitted_priors:
            return {"prior": drawn["prior"].astype(np.float32)}
        rows = first_rows(self.train, MAX_POSTERIOR_ROWS).modalities
        latents = aggregate_posterior_samples(model, rows, seed=options.seed)
        count = max(1, min(NUM_COMPONENTS, len(latents) // 100))
        fits = {
            "gaussian_mixture": fit_gaussian_mixture(
                latents, num_components=count, seed=options.seed
            )
        }
        if model.latent_dim > 1 and len(latents) >= MIN_FLOW_ROWS:
            fits["flow"] = fit_flow(
                latents, seed=options.seed, progress=progress("fitting the flow")
            )
        for name, fit in fits.items():
            drawn[name] = fit.sample(options.num_samples, seed=[0, options.seed])
        return {name: np.asarray(z, np.float32) for name, z in drawn.items()}


def first_rows(data: LabelledData, count: int | None) -> LabelledData:
    """The first `count` rows; None: all."""
    return LabelledData(
        {name: values[:count] for name, values in data.modalities.items()},
        data.labels[:count],
    )


def as_batch(data: Mapping[str, np.ndarray]) -> Any:
    """All rows as one batch of what a model takes."""
    from tf_mopoe.data import ordered_batches

    return next(iter(ordered_batches(data, len(next(iter(data.values()))))))


def progress(title: str) -> Callable[[Iterable], Iterable]:
    """Wraps an iterable in a progress bar, where there is a terminal to show it."""
    from tqdm import tqdm

    return functools.partial(tqdm, desc=title, disable=None, leave=False)


def _load_features(path: str) -> Callable:
    import keras

    try:
        return keras.saving.load_model(path)
    except (OSError, TypeError, ValueError, zipfile.BadZipFile):
        raise UsageError(f"--features: {path} holds no model of Keras.") from None


def as_json(value: Any) -> Any:
    """Numbers of NumPy as Python's; what is not a finite number as None."""
    if isinstance(value, Mapping):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
