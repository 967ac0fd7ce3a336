"""What may be set on a made model takes effect at the next step, or is refused."""

import keras
import numpy as np
import pytest

from tests.tiny_models import FAMILY, tiny_batch, tiny_model
from tf_mopoe.models.multimodal_vae import ADJUSTABLE


class Sets(keras.callbacks.Callback):
    """Sets an attribute to `values[epoch]` when an epoch begins."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, values

    def on_epoch_begin(self, epoch, logs=None):
        setattr(self.model, self.name, self.values[epoch])


def losses(model, name=None, values=None, epochs=2):
    """The training losses of epochs of one step; the weights stay.

    A compiled step where something is set meanwhile, else an eager one.
    """
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=name is None)
    callbacks = [] if name is None else [Sets(name, values)]
    data = tiny_batch()
    options = {"epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(data, callbacks=callbacks, **options).history


@pytest.mark.integration
def test_beta_set_in_a_callback_is_that_of_the_next_step():
    history = losses(tiny_model(), "beta", [0.0, 0.25, 0.5, 0.75], epochs=4)
    assert history["beta"] == [0.0, 0.25, 0.5, 0.75]
    kl = [
        -sum(x) for x in zip(history["a_log_likelihood"], history["b_log_likelihood"])
    ]
    expected = np.array(kl) + np.array(history["beta"]) * history["kl_bound"]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)


@pytest.mark.integration
def test_beta_may_become_a_schedule_and_a_number_again():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.2, 4, 1.0)
    history = losses(tiny_model(), "beta", [0.5, schedule, 0.25], epochs=3)
    np.testing.assert_allclose(history["beta"], [0.5, float(schedule(1)), 0.25])


OTHER = {"beta_content": 3.0, "beta_style": 3.0, "num_samples": 4, "seed": 7}


@pytest.mark.integration
@pytest.mark.parametrize("name", OTHER)
def test_a_setting_changed_in_a_callback_gives_the_loss_of_a_model_made_with_it(name):
    options = {"a": {"style_dim": 2}}
    changed = tiny_model(options=options)
    before = getattr(changed, name)
    history = losses(changed, name, [before, OTHER[name]])
    made = tiny_model(options=options)
    setattr(made, name, OTHER[name])
    np.testing.assert_allclose(
        history["loss"][1], losses(made, epochs=2)["loss"][1], rtol=1e-5
    )
    plain = losses(tiny_model(options=options), epochs=2)["loss"]
    assert history["loss"][0] == pytest.approx(plain[0], rel=1e-5)
    assert history["loss"][1] != pytest.approx(plain[1], rel=1e-4)


def test_every_adjustable_setting_is_tried_here():
    assert set(OTHER) | {"beta"} == set(ADJUSTABLE)


@pytest.mark.integration
@pytest.mark.parametrize("cls", FAMILY)
def test_every_other_argument_is_fixed(cls):
    model = tiny_model(cls=cls)
    arguments = set(model.get_config()) - {"name", "trainable", "dtype"}
    assert arguments - set(ADJUSTABLE) <= set(model.FIXED_SETTINGS)
    for name in model.FIXED_SETTINGS:
        with pytest.raises(AttributeError, match=f"`{name}` is fixed when a model"):
            setattr(model, name, getattr(model, name))
    with pytest.raises(TypeError):
        model.reconstruction_weights["a"] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        model.mask[0, 0] = False


@pytest.mark.parametrize(
    ("name", "value"), [("beta", -1.0), ("num_samples", 0), ("beta_content", np.inf)]
)
def test_wrong_values_are_refused_and_change_nothing(name, value):
    model = tiny_model()
    before = getattr(model, name)
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        setattr(model, name, value)
    assert getattr(model, name) == before


@pytest.mark.integration
def test_layers_frozen_and_set_free_in_callbacks_stay_and_move():
    model = tiny_model()
    model.compile(keras.optimizers.SGD(0.1))
    seen = []

    class Freezes(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.networks.decoders["a"].trainable = epoch != 1
            self.before = self.model.networks.decoders["a"].get_weights()

        def on_epoch_end(self, epoch, logs=None):
            after = self.model.networks.decoders["a"].get_weights()
            pairs = zip(self.before, after)
            seen.append(all(np.array_equal(old, new) for old, new in pairs))

    model.fit(tiny_batch(), epochs=3, verbose=0, callbacks=[Freezes()])
    assert seen == [False, True, False]


@pytest.mark.integration
def test_compiled_settings_changed_afterwards_count():
    model = tiny_model()
    model.compile(keras.optimizers.SGD(0.0))
    data = tiny_batch()
    model.fit(data, verbose=0)
    before = model.get_weights()
    model.optimizer = keras.optimizers.SGD(0.1)
    model.fit(data, verbose=0)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights()))
    traced = model.train_function
    model.run_eagerly = True
    assert model.train_function is not traced


def test_all_networks_frozen_are_refused():
    model = tiny_model()
    model.compile("sgd")
    model.trainable = False
    for method in (model.fit, model.train_on_batch):
        with pytest.raises(ValueError, match="nothing to train: all networks are froz"):
            method(tiny_batch())
