"""Bimodal CelebA, faces and text, the settings of the published experiment.

Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021, and the script
`job_celeba` of its code (github.com/thomassutter/MoPoE).

Expected after 250 epochs: not known, since the paper's table was not available. Not
measured, since CelebA was not available.

Time: an epoch was not measured. A step of the full networks with 256 made images took
19 to 20 s on 2 CPU cores: a recipe for GPUs. In the first steps the divergence is far
larger than the reconstruction (spikes of 1e15 seen); tens of steps later it is not.

Differs from the published run: the text starts at its first symbol, not at a random
one, and is a categorical with logits.

Run: mopoe-train celeba --out runs/celeba --set files=FOLDER
"""

import pathlib
from typing import TYPE_CHECKING

from trainers.config.train_config import Count, NonNegative, Positive
from trainers.recipes.tfds_data import TfdsConfig, tfds_recipe

if TYPE_CHECKING:
    from tf_mopoe import MoPoEVAE

IMAGE_SHAPE = (64, 64, 3)


class CelebaConfig(TfdsConfig):
    """Settings of the recipe."""

    epochs: Count = 250
    batch_size: Count = 256
    learning_rate: Positive = 5e-4
    schedule: str = "constant"
    latent_dim: Count = 20
    beta: NonNegative = 2.5
    style_dim: Count = 32
    """Size of each modality's style."""
    beta_style: NonNegative = 2.0
    """Weight of the styles' divergences; that of the text counts 5 times."""
    filters: Count = 128
    """Channels of the first layer; the last has 5 times as many."""
    likelihood_scale: Positive = 0.75
    """Scale of the Laplace likelihood of pixels in [0, 1]."""
    files: pathlib.Path | None = None
    """Folder with img_align_celeba, list_attr_celeba.txt and list_eval_partition.txt;
    none: TFDS downloads CelebA."""


def build_model(config: CelebaConfig, num_steps: int) -> "MoPoEVAE":
    """The published residual networks, weights 1/3 and 16."""
    from tf_mopoe import Modality, MoPoEVAE, nets
    from tf_mopoe.data import ALPHABET
    from tf_mopoe.data.bimodal_celeba.attributes import TEXT_LENGTH

    del num_steps  # only the optimizer has a schedule
    size = config.latent_dim + config.style_dim
    filters = config.filters
    return MoPoEVAE(
        [
            Modality(
                "image",
                IMAGE_SHAPE,
                encoder=nets.residual_image_encoder(
                    filters=filters, name="image_encoder"
                ),
                decoder=nets.residual_image_decoder(
                    size, filters=filters, name="image_decoder"
                ),
                likelihood="laplace",
                likelihood_scale=config.likelihood_scale,
                reconstruction_weight=1 / 3,
                style_dim=config.style_dim,
            ),
            Modality(
                "text",
                (TEXT_LENGTH,),
                encoder=nets.residual_text_encoder(
                    filters=filters, name="text_encoder"
                ),
                decoder=nets.residual_text_decoder(
                    size, filters=filters, name="text_decoder"
                ),
                likelihood="integer_categorical",
                num_classes=len(ALPHABET),
                reconstruction_weight=16.0,
                style_dim=config.style_dim,
                beta_style=5.0,
            ),
        ],
        config.latent_dim,
        beta=config.beta,
        beta_style=config.beta_style,
        seed=config.seed,
        name="celeba",
    )


def _make_builder(config: CelebaConfig):
    from tf_mopoe.data import bimodal_celeba

    return bimodal_celeba.Builder(
        config=bimodal_celeba.BimodalCelebaConfig(files=config.files),
        data_dir=config.data_dir,
    )


def _to_row(row):
    from tf_mopoe.data import encode_text
    from tf_mopoe.data.bimodal_celeba.attributes import TEXT_LENGTH

    text = encode_text(row["text"], TEXT_LENGTH)
    return {"image": row["image"], "text": text, "label": row["attributes"]}


def _attributes():
    from tf_mopoe.data.bimodal_celeba.attributes import ATTRIBUTES

    return ATTRIBUTES


RECIPE = tfds_recipe(
    CelebaConfig,
    build_model,
    _make_builder,
    to_row=_to_row,
    num_classes=None,
    attributes=_attributes,
)
