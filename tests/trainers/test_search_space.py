"""The search space of `mopoe-tune`: what `--space` takes and refuses."""

import pytest

from trainers.errors import UsageError
from trainers.recipes.registry import get_recipe
from trainers.tuning.search_space import describe, make_space, with_settings


@pytest.fixture
def config():
    return get_recipe("polydigits").config_class()


def described(space):
    return {name: describe(spec) for name, spec in space.items()}


def test_default_ranges_lie_around_the_recipe_in_log_scale(config):
    assert described(make_space(config, [])) == {
        "latent_dim": "8:128:log",
        "beta": "0.5:50.0:log",
        "learning_rate": "0.0002:0.02:log",
    }


def test_fixed_settings_are_not_searched(config):
    assert set(make_space(config, [], fixed=["beta", "epochs"])) == {
        "latent_dim",
        "learning_rate",
    }


def test_default_range_of_zero_is_not_searched(config):
    assert "beta" not in make_space(with_settings(config, {"beta": 0}), [])


def test_ranges_and_choices_have_the_type_of_their_setting(config):
    specs = ["beta=1:10", "batch_size=32:64", "precision=float32,mixed_bfloat16"]
    specs += ["features=64,128", "tensorboard_graph=true,false"]
    space = make_space(config, specs)
    assert described(space) == {
        "latent_dim": "8:128:log",
        "beta": "1.0:10.0",
        "learning_rate": "0.0002:0.02:log",
        "batch_size": "32:64",
        "precision": "float32,mixed_bfloat16",
        "features": "64,128",
        "tensorboard_graph": "True,False",
    }
    assert space["features"].choices == (64, 128)
    assert type(space["batch_size"].low) is int


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("beta", "--space expects key=SPEC. Received: 'beta'."),
        ("=1:2", "--space expects key=SPEC"),
        ("bta=1:2", "--space: unknown setting 'bta'. Did you mean 'beta'?"),
        ("bta=1", "--space: unknown setting 'bta'. Did you mean 'beta'?"),
        ("beta=1", "--space beta: expected LOW:HIGH, LOW:HIGH:log or choices A,B."),
        ("beta=1:2:ln", "Received: '1:2:ln'."),
        ("beta=1:2:log:log", "expected LOW:HIGH"),
        ("beta=-1:2", "--space: beta: Input should be greater than or equal to 0"),
        ("missing=0.5:1", "--space: missing: Input should be less than 1"),
        ("beta=2:1", "expected finite bounds, the lower first. Received: '2:1'."),
        ("beta=2:2", "the lower first"),
        ("width=0.1:nan", "width"),
        ("beta=0:2:log", "--space beta: a log scale must begin above 0."),
        ("latent_dim=8:16.5", "--space: latent_dim: Input should be a val"),
        ("precision=float32:float64", "--space: precision: "),
        ("precision=float32,float64", "Received: 'float64'"),
        ("monitor=a:b", "--space monitor: is not a number; give choices A,B."),
        ("tensorboard_graph=false:true", "is not a number"),
        ("features=64,64", "--space features: a choice comes twice in '64,64'."),
        ("seed=1:2", "--space seed: --set fixes it."),
    ],
)
def test_wrong_specs_are_refused_in_one_line_that_names_them(config, spec, message):
    with pytest.raises(UsageError) as error:
        make_space(config, [spec], fixed=["seed"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_setting_searched_twice_is_refused(config):
    with pytest.raises(UsageError, match="gives 'beta' twice"):
        make_space(config, ["beta=1:2", "beta=1:3"])


def test_a_space_without_settings_is_refused(config):
    with pytest.raises(UsageError, match="none is left to search"):
        make_space(config, [], fixed=["latent_dim", "beta", "learning_rate"])


def test_combinations_that_the_configuration_refuses_are_refused():
    import pydantic

    class Config(get_recipe("polydigits").config_class):
        @pydantic.model_validator(mode="after")
        def _fits(self):
            if self.latent_dim > self.features:
                raise ValueError("latent_dim: at most features")
            return self

    specs = ["latent_dim=16:128", "features=64:256"]  # each fits the defaults
    make_space(Config(), specs[:1])
    make_space(Config(), specs[1:], fixed=["latent_dim"])
    with pytest.raises(UsageError, match="--space: .*at most features"):
        make_space(Config(), specs)
