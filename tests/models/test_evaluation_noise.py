"""Evaluation's noise: a row's place in the data decides, not its batch."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_models import FAMILY, tiny_batch, tiny_model
from tf_mopoe import MVAE, MultimodalVAE
from tf_mopoe.subsets import SubsetSampler

MODELS = {
    **{cls.__name__: {"cls": cls} for cls in FAMILY},
    "random subsets": {"cls": MVAE, "names": "abc", "random_subset_elbos": 2},
    "sampled subsets": {
        "cls": MultimodalVAE,
        "names": "abc",
        "subsets": SubsetSampler(3),
    },
    "IWAE": {"objective": "iwae", "num_samples": 3},
    "DReG": {"objective": "dreg", "num_samples": 3},
    "styles": {"options": {"a": {"style_dim": 2}}},
}


def compiled(**kwargs):
    model = tiny_model(**kwargs)
    model.compile("sgd", run_eagerly=True)
    return model


def holed(batch):
    """Every third row of "a" missing."""
    rows = len(batch["b"])
    return {**batch, "present": {"a": np.arange(rows) % 3 > 0}}


@pytest.mark.integration
@pytest.mark.parametrize("name", MODELS)
def test_noise_of_evaluation_depends_on_the_place_of_a_row_alone(name):
    arguments = MODELS[name]
    model = compiled(**arguments)
    data = holed(tiny_batch(arguments.get("names", "ab"), rows=9))
    results = [
        model.evaluate(data, batch_size=size, verbose=0, return_dict=True)
        for size in (9, 4)
    ]
    for metric, value in results[0].items():
        np.testing.assert_allclose(results[1][metric], value, rtol=1e-5, err_msg=metric)
    once = tiny_batch(arguments.get("names", "ab"), rows=6)
    twice = {key: np.tile(value, (2, 1)) for key, value in once.items()}
    first, again, both = (
        model.evaluate(data, batch_size=6, verbose=0)[0] for data in (once, once, twice)
    )
    assert first == again
    assert abs(both - first) > 1e-4  # the second copy's noise is its own


@pytest.mark.integration
def test_evaluation_of_more_rows_varies_less_over_seeds():
    batch = tiny_batch(rows=8)
    spread = []
    model = compiled()
    for copies in (1, 64):
        data = {name: np.tile(value, (copies, 1)) for name, value in batch.items()}
        losses = []
        for seed in range(12):
            model.seed = seed
            losses.append(model.evaluate(data, batch_size=512, verbose=0)[0])
        spread.append(np.std(losses))
    assert spread[1] < spread[0] / 3  # 1 / 8 in expectation


@pytest.mark.integration
def test_validation_within_fit_is_what_evaluate_gives():
    model, data = compiled(), tiny_batch(rows=12)
    history = model.fit(data, validation_data=data, batch_size=5, epochs=2, verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(
        model.evaluate(data, verbose=0)[0], rel=1e-5
    )


def test_micro_batches_of_an_accumulated_gradient_have_noise_of_their_own():
    model = tiny_model()
    optimizer = tf.keras.optimizers.SGD(0.0, gradient_accumulation_steps=4)
    model.compile(optimizer, run_eagerly=True)
    batch = tiny_batch()
    losses = [model.train_on_batch(batch)[0] for _ in range(8)]
    assert len(set(losses)) == 8  # the weights stay: the noise alone differs


def test_accumulated_gradients_of_a_decoder_count_in_their_own_step_only():
    """The last batch of the step lacks "b": its decoder's share must not wait."""
    whole = tiny_batch()
    decoders = []
    for order in ([whole, {"a": whole["a"]}], [{"a": whole["a"]}, whole]):
        model = tiny_model()
        optimizer = tf.keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
        model.compile(optimizer, run_eagerly=True)
        before = model.networks.decoders["b"].get_weights()
        for batch in order:
            model.train_on_batch(batch)
        after = model.networks.decoders["b"].get_weights()
        decoders.append([new - old for new, old in zip(after, before)])
    for steps in decoders:
        assert all(np.abs(step).max() > 0.0 for step in steps)
