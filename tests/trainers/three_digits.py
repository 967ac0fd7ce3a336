"""A recipe of three small modalities, which is quick to train and to measure."""

from tf_mopoe import MoPoEVAE
from trainers.recipes import polydigits
from trainers.recipes.polymnist import image_modalities
from trainers.recipes.recipe import LabelledData, Recipe

NAMES = ("m0", "m1", "m2")
TEST_ROWS = 100


class ThreeDigitsConfig(polydigits.PolyDigitsConfig):
    """A small version of PolyDigits."""

    epochs: int = 1
    batch_size: int = 256
    latent_dim: int = 8
    pairings: int = 1


def build_model(config, num_steps):
    modalities = image_modalities(config, filters=(8, 16, 32), features=64)[:3]
    options = {"beta": config.beta, "seed": config.seed, "name": "three_digits"}
    return MoPoEVAE(modalities, config.latent_dim, **options)


def load_data(config, split):
    data = polydigits.load_data(config, split)
    count = None if split == "train" else TEST_ROWS
    modalities = {name: data.modalities[name][:count] for name in NAMES}
    return LabelledData(modalities, data.labels[:count])


RECIPE = Recipe(ThreeDigitsConfig, build_model, load_data, num_classes=10)
