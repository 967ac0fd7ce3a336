"""PolyDigits: five views of real handwritten digits, no download.

Run: mopoe-train polydigits --out runs/polydigits
"""

from typing import TYPE_CHECKING

import pydantic

from trainers.config.train_config import Count, NonNegative, Positive, TrainConfig
from trainers.recipes.polymnist import image_modalities
from trainers.recipes.recipe import LabelledData, Recipe, Split

if TYPE_CHECKING:
    from tf_mopoe import MoPoEVAE


class PolyDigitsConfig(TrainConfig):
    """Settings of the recipe."""

    epochs: Count = 16
    batch_size: Count = 64
    learning_rate: Positive = 2e-3
    latent_dim: Count = 32
    beta: NonNegative = 5.0
    warmup: float = pydantic.Field(default=0.6, ge=0, le=1)
    """Fraction of all steps over which beta rises from a tenth of its value."""
    features: Count = 256
    """Number of units of each encoder's last layer."""
    pairings: Count = 8
    """Number of tuples made from each digit image in an epoch."""
    width: float = pydantic.Field(default=0.5, gt=0, le=4)
    """Factor that multiplies the channels of the PolyMNIST networks."""
    likelihood_scale: Positive = 0.25
    """Scale of the Laplace likelihood of pixels in [0, 1]."""


def build_model(config: PolyDigitsConfig, num_steps: int) -> "MoPoEVAE":
    """A MoPoE-VAE with the PolyMNIST networks, `width` times as wide."""
    import keras

    from tf_mopoe import MoPoEVAE

    filters = [max(1, round(config.width * channels)) for channels in (32, 64, 128)]
    modalities = image_modalities(config, filters=filters, features=config.features)
    beta: float | keras.optimizers.schedules.LearningRateSchedule = config.beta
    if config.warmup > 0:
        beta = keras.optimizers.schedules.PolynomialDecay(
            0.1 * config.beta,
            max(1, round(config.warmup * num_steps)),
            config.beta,
        )
    return MoPoEVAE(
        modalities, config.latent_dim, beta=beta, seed=config.seed, name="polydigits"
    )


def load_data(config: PolyDigitsConfig, split: Split) -> LabelledData:
    """Loads the split's tuples; no digit image is in two splits."""
    from tf_mopoe.data import load_polydigits

    pairings = config.pairings if split == "train" else 4
    data = load_polydigits(split, pairings=pairings, seed=config.seed)
    return LabelledData(data.images, data.labels)


RECIPE = Recipe(PolyDigitsConfig, build_model, load_data, num_classes=10)
