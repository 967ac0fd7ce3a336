"""Schedules, clipping, precision and execution, against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainers.config.train_config import SCHEDULES, make_config
from trainers.fitting.optimizer import (
    compile_options,
    make_optimizer,
)
from trainers.recipes.registry import get_recipe

RATE = 0.02
STEPS = 40


def config(**values):
    recipe = get_recipe("polydigits")
    return make_config(recipe.config_class, {"learning_rate": RATE, **values})


def rates(num_steps=STEPS, **values):
    """The learning rate of each step, and of the one after the last."""
    optimizer = make_optimizer(config(**values), num_steps)
    values = []
    for step in range(num_steps + 1):
        optimizer.iterations.assign(step)
        values.append(float(optimizer.learning_rate))
    return np.asarray(values)


def risen(fall):
    """`fall` after a linear rise over the first 10 steps."""
    return lambda n: np.where(n < 10, n / 10, fall((n - 10) / (STEPS - 10)))


STEP = np.arange(STEPS + 1)
#: Settings, and the share of the learning rate in step n.
CLOSED_FORMS = {
    "constant": ({}, np.ones_like),
    "constant_warmup": ({"learning_rate_warmup": 0.25}, risen(np.ones_like)),
    "cosine": ({}, lambda n: (1 + np.cos(np.pi * n / STEPS)) / 2),
    "cosine_final": (
        {"learning_rate_final_share": 0.1},
        lambda n: 0.1 + 0.9 * (1 + np.cos(np.pi * n / STEPS)) / 2,
    ),
    "cosine_warmup": (
        {"learning_rate_warmup": 0.25, "learning_rate_final_share": 0.1},
        risen(lambda x: 0.1 + 0.9 * (1 + np.cos(np.pi * x)) / 2),
    ),
    "linear": ({}, lambda n: 1 - n / STEPS),
    "linear_final": ({"learning_rate_final_share": 0.2}, lambda n: 1 - 0.8 * n / STEPS),
    "exponential": ({}, lambda n: 0.01 ** (n / STEPS)),
    "exponential_final": (
        {"learning_rate_final_share": 0.5},
        lambda n: 0.5 ** (n / STEPS),
    ),
    "piecewise": ({}, lambda n: 10.0 ** -((n >= 20) * 1 + (n >= 30))),
    "piecewise_drops": (
        {"learning_rate_drops": "0.1,0.2,0.9"},
        lambda n: 10.0 ** -((n >= 4) * 1 + (n >= 8) + (n >= 36)),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_schedule_equals_its_closed_form_at_every_step(name):
    settings, share = CLOSED_FORMS[name]
    actual = rates(schedule=name.partition("_")[0], **settings)
    expected = RATE * share(STEP.astype(float))
    # float32; the cosine is 0 at its end up to rounding
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=RATE * 1e-6)


def test_every_schedule_has_a_closed_form_here():
    assert {name.partition("_")[0] for name in CLOSED_FORMS} == set(SCHEDULES)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_schedule_of_a_single_step_takes_it_with_the_full_rate(name):
    settings, _ = CLOSED_FORMS[name]
    if "learning_rate_warmup" in settings:
        settings = {"learning_rate_warmup": 0.9}
    actual = rates(1, schedule=name.partition("_")[0], **settings)
    assert np.isfinite(actual).all()
    assert actual[0] == pytest.approx(RATE)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_saved_schedule_is_equal_and_of_keras_classes(name):
    settings, share = CLOSED_FORMS[name]
    values = {"schedule": name.partition("_")[0], **settings}
    saved = keras.saving.serialize_keras_object(make_optimizer(config(**values), STEPS))
    schedule = saved["config"]["learning_rate"]
    if isinstance(schedule, dict):
        assert schedule["module"] == "keras.optimizers.schedules"
        assert schedule["registered_name"] is None
    loaded = keras.saving.deserialize_keras_object(saved)
    loaded.iterations.assign(7)
    expected = RATE * float(share(np.asarray([7.0]))[0])
    assert float(loaded.learning_rate) == pytest.approx(expected, rel=1e-5)


def adam(gradients, rate):
    """Adam's result from 0, in float64."""
    first = second = place = np.zeros(2)
    for step, gradient in enumerate(gradients, start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = second / (1 - 0.999**step)
        place = place - rate * first / (1 - 0.9**step) / (np.sqrt(unbiased) + 1e-7)
    return place


@pytest.mark.parametrize(("clip_norm", "largest"), [(None, np.inf), (1.0, 1.0)])
def test_gradients_are_clipped_by_the_norm_of_all_of_them_together(clip_norm, largest):
    optimizer = make_optimizer(config(schedule="constant", clip_norm=clip_norm), STEPS)
    variables = [keras.Variable([0.0]), keras.Variable([0.0])]
    gradients = [np.asarray([3.0, 4.0]), np.asarray([0.3, -0.4])]
    for pair in gradients:
        optimizer.apply(
            [tf.constant([x], tf.float32) for x in pair], trainable_variables=variables
        )
    clipped = [g * min(1, largest / np.linalg.norm(g)) for g in gradients]
    np.testing.assert_allclose(
        np.concatenate([keras.ops.convert_to_numpy(x) for x in variables]),
        adam(clipped, RATE),
        rtol=1e-4,  # float32
    )


@pytest.mark.parametrize(
    ("execution", "steps", "strategy", "jit_compile", "run_eagerly"),
    [
        ("auto", 999, "one_device", False, False),
        ("auto", 1000, "one_device", True, False),
        ("auto", 1000, "multi_worker", False, False),
        ("graph", 1000, "one_device", False, False),
        ("xla", 1, "one_device", True, False),
        ("xla", 1, "multi_worker", True, False),
        ("eager", 1000, "one_device", False, True),
        ("xla", 1000, "tpu", False, False),
    ],
)
def test_compile_options_of_each_execution(
    execution, steps, strategy, jit_compile, run_eagerly
):
    options = compile_options(config(execution=execution, strategy=strategy), steps)
    assert options == {"jit_compile": jit_compile, "run_eagerly": run_eagerly}


@pytest.fixture
def policy():
    """Restores Keras's dtype policy."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize(
    ("precision", "compute", "scaled"),
    [
        ("mixed_float16", "float16", True),
        ("mixed_bfloat16", "bfloat16", False),
        ("float32", "float32", False),
    ],
)
def test_precision_applies_to_models_made_afterwards(precision, compute, scaled):
    keras.config.set_dtype_policy("mixed_bfloat16")  # of a training before
    settings = config(precision=precision, clip_norm=2.0, schedule="constant")
    keras.config.set_dtype_policy(settings.precision)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile(make_optimizer(settings, STEPS), "mse")
    assert model.layers[0].compute_dtype == compute
    assert model.layers[0].variable_dtype == "float32"
    inner = getattr(model.optimizer, "inner_optimizer", None)
    assert (inner is not None) == scaled
    assert (inner or model.optimizer).global_clipnorm == 2.0
    assert float(model.optimizer.learning_rate) == pytest.approx(RATE)
