"""PolyDigits: five views of real handwritten digits, no download.

Run: mopoe-train polydigits --out runs/polydigits
"""

from typing import TYPE_CHECKING

import pydantic

from trainers.config.train_config import Count, NotNegative, Positive, TrainConfig
from trainers.recipes.recipe import LabelledData, Recipe, Split

if TYPE_CHECKING:
    from tf_mopoe import MoPoEVAE

IMAGE_SHAPE = (28, 28, 3)


class PolyDigitsConfig(TrainConfig):
    """Settings of the recipe."""

    epochs: Count = 16
    batch_size: Count = 64
    learning_rate: Positive = 2e-3
    latent_dim: Count = 32
    beta: NotNegative = 5.0
    warmup: float = pydantic.Field(default=0.6, ge=0, le=1)
    """Share of all steps in which beta rises, from a tenth of itself."""
    features: Count = 256
    """Units of each encoder's last layer."""
    pairings: Count = 8
    """Tuples made of each digit image in an epoch."""
    width: float = pydantic.Field(default=0.5, gt=0, le=4)
    """Factor of the PolyMNIST networks' channels."""
    likelihood_scale: Positive = 0.25
    """Scale of the Laplace likelihood of pixels in [0, 1]."""


def build_model(config: PolyDigitsConfig, num_steps: int) -> "MoPoEVAE":
    """A MoPoE-VAE with the PolyMNIST networks, `width` times as wide."""
    import keras

    from tf_mopoe import Modality, MoPoEVAE, nets

    filters = [max(1, round(config.width * channels)) for channels in (32, 64, 128)]
    modalities = [
        Modality(
            f"m{index}",
            IMAGE_SHAPE,
            encoder=nets.conv_encoder(
                IMAGE_SHAPE,
                filters=filters,
                features=config.features,
                name=f"m{index}_encoder",
            ),
            decoder=nets.conv_decoder(
                IMAGE_SHAPE,
                config.latent_dim,
                filters=filters[::-1],
                name=f"m{index}_decoder",
            ),
            likelihood="laplace",
            likelihood_scale=config.likelihood_scale,
        )
        for index in range(5)
    ]
    beta = config.beta
    if config.warmup > 0:
        beta = keras.optimizers.schedules.PolynomialDecay(
            0.1 * beta, max(1, round(config.warmup * num_steps)), beta
        )
    return MoPoEVAE(
        modalities,
        config.latent_dim,
        beta=beta,
        seed=config.seed,
        name="polydigits",
    )


def load_data(config: PolyDigitsConfig, split: Split) -> LabelledData:
    """The split's tuples; no digit image is in two splits."""
    from tf_mopoe.data import load_polydigits

    pairings = config.pairings if split == "train" else 4
    data = load_polydigits(split, pairings=pairings, seed=config.seed)
    return LabelledData(data.images, data.labels)


RECIPE = Recipe(PolyDigitsConfig, build_model, load_data, num_classes=10)
