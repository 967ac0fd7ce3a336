"""The configuration: what it refuses, how texts become values, its help."""

import pathlib
from typing import get_args

import pytest

from trainers.config.train_config import SettingError, make_config
from trainers.recipes.registry import RECIPES

RECIPE_CLASSES = {name: recipe.config_class for name, recipe in RECIPES.items()}
POLYDIGITS = RECIPE_CLASSES["polydigits"]


def with_values(**values):
    return make_config(POLYDIGITS, values)


def refusal(**values):
    with pytest.raises(SettingError) as refused:
        with_values(**values)
    message = str(refused.value)
    assert "\n" not in message
    assert refused.value.field in values
    assert refused.value.field in message
    return message


@pytest.mark.parametrize("recipe", RECIPE_CLASSES)
def test_every_setting_has_a_meaning(recipe):
    config_class = RECIPE_CLASSES[recipe]
    for name in config_class.model_fields:
        meaning = config_class.help_of(name)
        assert meaning.endswith("."), name
        assert "\n" not in meaning
    assert config_class.help_of("beta") == "Weight of the divergence."


def test_every_optional_setting_accepts_none_as_text():
    optional = {
        (recipe, name)
        for recipe, config_class in RECIPE_CLASSES.items()
        for name, field in config_class.model_fields.items()
        if type(None) in get_args(field.annotation)
    }
    assert ("polydigits", "patience") in optional
    assert ("celeba", "files") in optional
    for recipe, name in optional:
        for text in ("none", "None", "null", "~", ""):
            config = make_config(RECIPE_CLASSES[recipe], {name: text})
            assert getattr(config, name) is None, name


def test_none_is_refused_for_settings_that_are_not_optional():
    assert "epochs" in refusal(epochs="none")
    assert with_values(monitor="none").monitor == "none"
    assert with_values(tpu="").tpu == ""


@pytest.mark.parametrize("text", ["0.2,0.6", "0.2, 0.6", "[0.2, 0.6]", "(0.2,0.6)"])
def test_drops_are_fractions_separated_by_commas(text):
    config = with_values(schedule="piecewise", learning_rate_drops=text)
    assert config.learning_rate_drops == (0.2, 0.6)


@pytest.mark.parametrize("text", ["0.6,0.2", "0.5,0.5", "0,0.5", "0.5,1", "a", "0.5,"])
def test_drops_must_be_ascending_fractions(text):
    refusal(schedule="piecewise", learning_rate_drops=text)


def test_numbers_are_read_from_texts_in_all_their_forms():
    config = with_values(learning_rate="2e-3", epochs="12", patience="3", beta=".5")
    assert config.learning_rate == 0.002
    assert (config.epochs, config.patience, config.beta) == (12, 3, 0.5)


@pytest.mark.parametrize("field", ["epochs", "patience", "width", "wandb", "beta"])
@pytest.mark.parametrize("value", [True, False])
def test_booleans_are_refused_as_numbers_and_names(field, value):
    assert "expected no boolean" in refusal(**{field: value})


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("off", False), (1, True)])
def test_booleans_are_read_from_common_spellings(text, value):
    assert with_values(tensorboard_graph=text).tensorboard_graph is value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "cosin"}, "Did you mean 'cosine'? Valid: constant, cosine, exp"),
        ({"precision": "bfloat16"}, "Did you mean 'mixed_bfloat16'? Valid: float32,"),
        ({"execution": "jit"}, "Valid: auto, eager, graph, xla."),
        ({"strategy": "miror"}, "Did you mean 'mirrored'?"),
        (
            {"learning_rat": 1},
            "unknown setting 'learning_rat'. Did you mean 'learning_",
        ),
        ({"warm": 1}, "unknown setting 'warm'. Did you mean 'warmup'?"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_valid_one(values, message):
    assert message in refusal(**values)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", "inf"),
        ("clip_norm", 0),
        ("clip_norm", "nan"),
        ("devices", 0),
        ("threads", -1),
        ("checkpoint_minutes", "inf"),
        ("checkpoint_steps", 1.5),
        ("patience", 0),
        ("learning_rate_warmup", 1),
        ("learning_rate_final_share", 0),
        ("monitor", ""),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    assert f"Received: {value!r}" in refusal(**{field: value})


@pytest.mark.parametrize("recipe", RECIPE_CLASSES)
@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch_size", 0), ("latent_dim", 0), ("learning_rate", 0)],
)
def test_recipes_keep_the_limits_of_settings_they_give_defaults_for(
    recipe, field, value
):
    with pytest.raises(SettingError, match=f"{field}: "):
        make_config(RECIPE_CLASSES[recipe], {field: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"devices": 2}, "devices: is for strategy mirrored. Received: strategy one_"),
        ({"devices": 2, "strategy": "tpu"}, "devices: is for strategy mirrored"),
        ({"tpu": "local"}, "tpu: is for strategy tpu"),
        ({"execution": "eager", "strategy": "tpu"}, "execution: "),
        ({"execution": "eager", "tensorboard_graph": True}, "tensorboard_graph: "),
        (
            {"schedule": "linear", "learning_rate_warmup": 0.1},
            "learning_rate_warmup: is for schedule constant or cosine. Received: sch",
        ),
        ({"schedule": "constant", "learning_rate_final_share": 0.1}, "is for schedule"),
        ({"schedule": "cosine", "learning_rate_drops": [0.5]}, "schedule piecewise"),
    ],
)
def test_settings_without_effect_beside_others_are_refused(values, message):
    assert message in refusal(**values)


def test_compatible_settings_are_accepted():
    with_values(strategy="mirrored", devices=2, execution="eager")
    with_values(strategy="tpu", tpu="local", tensorboard_graph=True)
    with_values(schedule="cosine", learning_rate_warmup=0.1)


def test_errors_shorten_long_values():
    assert len(refusal(epochs="9" * 10_000)) < 300


def test_paths_become_absolute():
    config = make_config(RECIPE_CLASSES["polymnist"], {"digits": "2024"})
    assert config.digits == pathlib.Path("2024").absolute()
