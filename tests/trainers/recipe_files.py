"""Small source files for recipes, and settings that name them."""

from trainers import train
from trainers.config.train_config import make_config
from trainers.recipes.registry import get_recipe


def settings(recipe, made):
    recipe_settings = {
        "polymnist": [
            f"digits={made / 'mnist.npz'}",
            f"backgrounds={made / 'photos'}",
            "validation=20",
            "latent_dim=8",
        ],
        "mnist_svhn_text": [
            f"digits={made / 'mnist.npz'}",
            f"svhn={made / 'svhn.npz'}",
            "validation=20",
            "data_multiplications=2",
        ],
        "celeba": [f"files={made / 'celeba'}", "filters=2", "style_dim=2"],
    }
    size = 4 if recipe == "celeba" else 20
    return [*recipe_settings[recipe], f"data_dir={made / 'tfds'}", f"batch_size={size}"]


def config_of(recipe, made, **changes):
    values = dict(s.split("=", 1) for s in settings(recipe, made))
    return make_config(get_recipe(recipe).config_class, {**values, **changes})


def run_train(recipe, made, out, *more, epochs=1):
    arguments = [recipe, "--out", str(out), "--epochs", str(epochs), "--set"]
    return train.main([*arguments, *settings(recipe, made), *more])
