"""What measures work on: a model, its data, classifiers, and latents from priors."""

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

#: Content of evaluation.json for one measure.
Entry = dict[str, Any]
#: Maximum number of training rows that the aggregate posterior is fitted on.
MAX_POSTERIOR_ROWS = 10_000
#: Minimum number of rows for a flow.
MIN_FLOW_ROWS = 100
#: Maximum number of components of the Gaussian mixture; each has 100 rows or more.
MAX_COMPONENTS = 50


class Options(NamedTuple):
    """Options of an evaluation.

    Attributes:
      seed: Seed of all draws.
      rows: Maximum number of rows, the first ones of the split; None: all of them, but
        fewer where a row is expensive.
      num_samples: K of log-likelihoods, and number of draws from the prior.
      num_train: Number of training rows of a linear probe; None: all.
      features: Path of a Keras model that computes features of images for sample
        quality; None: the classifiers do.
      fitted_priors: Whether joint draws also come from fits of the posteriors.
    """

    seed: int = 0
    rows: int | None = None
    num_samples: int = 1000
    num_train: int | None = 500
    features: str | None = None
    fitted_priors: bool = True


class EvaluationContext:
    """A model, the split it is measured on, and what measures share, made once."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        config: TrainConfig,
        model: "MultimodalVAE",
        *,
        split: Split = "test",
        options: Options | None = None,
        like: "EvaluationContext | None" = None,
    ):
        """Loads the split; training data and classifiers are made when first used.

        Those of `like`, a context of the same run and split, are reused.
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

    def entry(self, protocol: str, *facts: str, **numbers: Any) -> Entry:
        """Begins an entry of evaluation.json.

        Args:
          protocol: How the numbers are measured, in words.
          *facts: Which of "split", "seed", "num_rows", "num_samples" and
            "num_posterior_rows" to state.
          **numbers: Facts of this measure alone, and its numbers.
        """
        known: Entry = {
            "split": self.split,
            "seed": self.options.seed,
            "num_rows": len(self.data.labels),
            "num_samples": self.options.num_samples,
        }
        if "num_posterior_rows" in facts:
            rows = min(MAX_POSTERIOR_ROWS, len(self.train.labels))
            known["num_posterior_rows"] = rows
        return {"protocol": protocol, **{x: known[x] for x in facts}, **numbers}

    @property
    def has_attributes(self) -> bool:
        """Whether labels are flags of several attributes instead of classes."""
        return self.recipe.num_classes is None

    @functools.cached_property
    def train(self) -> LabelledData:
        """The training split, which not every measure needs."""
        return self.recipe.load_data(self.config, "train")

    @functools.cached_property
    def user_features(self) -> dict[str, Callable]:
        """The model of `--features` for each image modality, tried on two rows.

        Raises:
          UsageError: If it can't be loaded, or does not accept the images.
        """
        import keras
        import tensorflow as tf

        path = self.options.features
        if path is None:
            return {}
        try:
            features = keras.saving.load_model(path)
        except (OSError, TypeError, ValueError, zipfile.BadZipFile):
            raise UsageError(f"--features: {path} holds no Keras model.") from None
        images = [m for m in self.model.modalities if len(m.event_shape) == 3]
        for modality in images:
            try:
                shape = tuple(features(tf.zeros([2, *modality.event_shape])).shape)
            except (AttributeError, TypeError, ValueError, tf.errors.OpError) as error:
                raise UsageError(
                    f"--features: {path} does not accept {modality.name!r}, images "
                    f"[B, {', '.join(map(str, modality.event_shape))}]. "
                    f"({str(error).splitlines()[0]})"
                ) from None
            if len(shape) != 2:
                raise UsageError(
                    f"--features: {path} must return features [B, F]. "
                    f"Received: shape {shape}."
                )
        return {modality.name: features for modality in images}

    @functools.cached_property
    def classifiers(self) -> dict[str, "keras.Model"]:
        """One classifier per modality, kept in RUN/classifiers."""
        import keras

        from tf_mopoe.metrics import train_classifier

        classifiers, missing = {}, []
        folder = self.run.classifiers
        folder.mkdir(exist_ok=True)
        for modality in self.model.modalities:
            path = folder / f"{modality.name}.keras"
            try:
                classifiers[modality.name] = keras.saving.load_model(path)
            except (OSError, ValueError, zipfile.BadZipFile):
                missing.append(modality)  # or damaged
        for modality in progress("training classifiers")(missing):
            name = modality.name
            classifiers[name] = train_classifier(
                self.train.modalities[name],
                self.train.labels,
                num_classes=self.recipe.num_classes,
                num_symbols=modality.num_classes,
                seed=self.config.seed,
                name=f"{name}_classifier",
            )
            with replacing(folder / f"{name}.keras") as temporary:
                classifiers[name].save(temporary)
        return {name: classifiers[name] for name in self.model.modality_names}

    @functools.cached_property
    def feature_models(self) -> dict[str, Callable]:
        """Modality name to a function from its values to features."""
        from tf_mopoe.metrics import classifier_features

        features = {
            name: classifier_features(classifier)
            for name, classifier in self.classifiers.items()
        }
        return features | self.user_features

    @functools.cached_property
    def priors(self) -> dict[str, np.ndarray]:
        """Draws of z `[N, D]` from the prior, and from two fits of all posteriors."""
        from tf_mopoe.metrics import (
            aggregate_posterior_samples,
            fit_flow,
            fit_gaussian_mixture,
        )

        options, model = self.options, self.model
        count, seed = options.num_samples, options.seed
        draws = {
            "prior": np.random.default_rng(seed).normal(size=(count, model.latent_dim))
        }
        if options.fitted_priors:
            rows = first_rows(self.train, MAX_POSTERIOR_ROWS).modalities
            latents = aggregate_posterior_samples(model, rows, seed=seed)
            components = max(1, min(MAX_COMPONENTS, len(latents) // 100))
            fits: dict[str, Any] = {
                "gaussian_mixture": fit_gaussian_mixture(
                    latents, num_components=components, seed=seed
                )
            }
            if model.latent_dim > 1 and len(latents) >= MIN_FLOW_ROWS:
                fits["flow"] = fit_flow(
                    latents, seed=seed, progress=progress("fitting the flow")
                )
            for name, fit in fits.items():
                draws[name] = fit.sample(count, seed=[0, seed])
        return {name: np.asarray(z, np.float32) for name, z in draws.items()}


def first_rows(data: LabelledData, count: int | None) -> LabelledData:
    """Returns the first `count` rows; None: all."""
    return LabelledData(
        {name: values[:count] for name, values in data.modalities.items()},
        data.labels[:count],
    )


def progress(title: str) -> Callable[[Iterable], Iterable]:
    """Returns a function that shows a progress bar, if there is a terminal."""
    from tqdm import tqdm

    return functools.partial(tqdm, desc=title, disable=None, leave=False)


def as_json(value: Any) -> Any:
    """Converts NumPy's numbers to Python's, and numbers that are not finite to None."""
    if isinstance(value, Mapping):
        return {str(key): as_json(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [as_json(entry) for entry in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
