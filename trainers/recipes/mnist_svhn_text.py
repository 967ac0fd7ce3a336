"""MNIST-SVHN-Text, the settings of the published experiment.

Source: Sutter et al., Generalized Multimodal ELBO, ICLR 2021, and the script
`job_mnistsvhntext` of its code (github.com/thomassutter/MoPoE).

Expected with all of SVHN after 200 epochs: not known, since the paper's table was not
available. Not measured at full length.

Time: 100 to 115 s an epoch of 572 steps on 2 CPU cores (measured), with MNIST and
SVHN-10k, the first 8,000 and last 2,000 of 10,000 SVHN digits. Two epochs: loss 6456,
then 5228; of validation 5341, then 5092.

Differs from the published run: a twelfth of the training images of either set is
kept for validation, which the published run did on the test split; each pairing draws
anew which images take part, instead of the first of each digit; the text is a
categorical with logits. As in the published run, the word is moved to a new random
offset each time it is read.

Run: mopoe-train mnist_svhn_text --out runs/mnist_svhn_text
"""

import pathlib
from typing import TYPE_CHECKING

import pydantic

from trainers.config.train_config import Count, NonNegative, Positive
from trainers.recipes.tfds_data import TfdsConfig, tfds_recipe

if TYPE_CHECKING:
    from tf_mopoe import MoPoEVAE

MNIST_SHAPE = (28, 28, 1)
SVHN_SHAPE = (32, 32, 3)
HIDDEN = (400,)  # of MNIST's dense networks


class MnistSvhnTextConfig(TfdsConfig):
    """Settings of the recipe."""

    epochs: Count = 200
    batch_size: Count = 256
    learning_rate: Positive = 1e-3
    schedule: str = "constant"
    latent_dim: Count = 20
    beta: NonNegative = 2.5
    likelihood_scale: Positive = 0.75
    """Scale of the Laplace likelihood of pixels in [0, 1]."""
    validation: Count = 5000
    """Number of MNIST's training images that are kept for validation, and paired once;
    the same fraction of SVHN's."""
    digits: pathlib.Path | None = None
    """File mnist.npz; none: TFDS downloads MNIST."""
    svhn: pathlib.Path | None = None
    """Folder of train_32x32.mat and test_32x32.mat, or an npz file; none: TFDS
    downloads SVHN."""
    data_multiplications: Count = 20
    """Number of pairings of each image."""
    data_seed: int = pydantic.Field(default=0, ge=0)
    """Seed of the pairing."""


def build_model(config: MnistSvhnTextConfig, num_steps: int) -> "MoPoEVAE":
    """The published networks; modalities weighted 3072/784, 1 and 384."""
    from tf_mopoe import Modality, MoPoEVAE, nets
    from tf_mopoe.data import ALPHABET
    from tf_mopoe.data.texts import DIGIT_TEXT_LENGTH

    del num_steps  # only the optimizer has a schedule
    return MoPoEVAE(
        [
            Modality(
                "mnist",
                MNIST_SHAPE,
                encoder=nets.dense_encoder(
                    MNIST_SHAPE, hidden=HIDDEN, name="mnist_encoder"
                ),
                decoder=nets.dense_decoder(
                    MNIST_SHAPE,
                    config.latent_dim,
                    hidden=HIDDEN,
                    output_activation="sigmoid",
                    name="mnist_decoder",
                ),
                likelihood="laplace",
                likelihood_scale=config.likelihood_scale,
                reconstruction_weight="dimension",
            ),
            Modality(
                "svhn",
                SVHN_SHAPE,
                encoder=nets.svhn_encoder(name="svhn_encoder"),
                decoder=nets.svhn_decoder(config.latent_dim, name="svhn_decoder"),
                likelihood="laplace",
                likelihood_scale=config.likelihood_scale,
                reconstruction_weight="dimension",
            ),
            Modality(
                "text",
                (DIGIT_TEXT_LENGTH,),
                encoder=nets.text_encoder(name="text_encoder"),
                decoder=nets.text_decoder(config.latent_dim, name="text_decoder"),
                likelihood="integer_categorical",
                num_classes=len(ALPHABET),
                reconstruction_weight="dimension",
            ),
        ],
        config.latent_dim,
        beta=config.beta,
        seed=config.seed,
        name="mnist_svhn_text",
    )


def _make_builder(config: MnistSvhnTextConfig):
    from tf_mopoe.data import mnist_svhn_text

    return mnist_svhn_text.Builder(
        config=mnist_svhn_text.MnistSvhnTextConfig(
            digits=config.digits,
            svhn=config.svhn,
            data_multiplications=config.data_multiplications,
            seed=config.data_seed,
            validation=config.validation,
        ),
        data_dir=config.data_dir,
    )


def _to_row(row):
    from tf_mopoe.data import encode_text
    from tf_mopoe.data.texts import DIGIT_TEXT_LENGTH

    return {**row, "text": encode_text(row["text"], DIGIT_TEXT_LENGTH)}


def _augment(config: MnistSvhnTextConfig):
    """Moves each word to a random offset."""
    from tf_mopoe.data.texts import redraw_offset

    del config
    return lambda batch, seed: {**batch, "text": redraw_offset(batch["text"], seed)}


RECIPE = tfds_recipe(
    MnistSvhnTextConfig,
    build_model,
    _make_builder,
    to_row=_to_row,
    num_classes=10,
    augment=_augment,
)
