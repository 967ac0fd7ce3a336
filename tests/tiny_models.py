"""Models and batches small enough to train within milliseconds."""

import numpy as np
import tensorflow as tf

from tf_mopoe import (
    MMJSD,
    MMVAE,
    MVAE,
    Modality,
    MoPoEVAE,
    MultimodalVAE,
    nets,
)
from tf_mopoe.distributions import noise
from tf_mopoe.models import bounds

#: Sizes of the modalities that `tiny_model` knows by name.
SIZES = {"a": 3, "b": 4, "c": 2}
LATENT_DIM = 2
#: The members of the family.
FAMILY = (MoPoEVAE, MVAE, MMVAE, MMJSD)
#: Each member, and each objective with two of them.
KINDS = [
    *((cls, "elbo") for cls in FAMILY),
    *((MoPoEVAE, "iwae"), (MVAE, "iwae"), (MoPoEVAE, "dreg"), (MMJSD, "dreg")),
]


def tiny_modality(name: str, event_shape=None, **kwargs) -> Modality:
    """A modality with small smooth networks, unless others are given."""
    event_shape = (SIZES[name],) if event_shape is None else event_shape
    small = {"hidden": (5,), "activation": "tanh"}
    size = LATENT_DIM + kwargs.get("style_dim", 0)
    networks = {
        "encoder": nets.dense_encoder(event_shape, **small),
        "decoder": nets.dense_decoder(event_shape, size, **small),
    }
    return Modality(name, event_shape, **{**networks, **kwargs})


def tiny_model(
    names="ab", *, cls=MoPoEVAE, options=None, seed: int | None = 0, **kwargs
) -> MultimodalVAE:
    """A model of the modalities named, with weights from NumPy's generator.

    Args:
      names: Modality names, or modalities.
      cls: Class of the model.
      options: Modality name to further arguments of its `Modality`.
      seed: Seed of the weights and of the model's noise; None leaves both to Keras.
      **kwargs: Keyword arguments of `cls`.
    """
    modalities = [
        tiny_modality(name, **(options or {}).get(name, {}))
        if isinstance(name, str)
        else name
        for name in names
    ]
    model = cls(modalities, LATENT_DIM, seed=seed, **kwargs)
    if seed is not None:
        rng = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            variable.assign(0.5 * rng.normal(size=variable.shape))
    return model


def tiny_batch(names="ab", rows: int = 8, seed: int = 1) -> dict[str, np.ndarray]:
    """Standard normal float32 values of the modalities named."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=(rows, SIZES[name])).astype("float32") for name in names
    }


def fix_noise(monkeypatch, value: float = 0.0) -> None:
    """Makes every z of training and evaluation loc + scale * value."""

    def constant(seed, draws, like, replica=None):
        shape = tf.concat([[draws], tf.shape(like)], axis=0)
        return tf.fill(shape, tf.cast(value, like.dtype))

    monkeypatch.setattr(noise, "normal_for", constant)
    monkeypatch.setattr(
        noise,
        "standard_normal",
        lambda shape, seed, dtype: tf.fill(shape, tf.cast(value, dtype)),
    )


def experts_of(model, batch) -> tuple[np.ndarray, np.ndarray]:
    """loc and scale `[B, M, D]` of a batch that has every modality, in float64."""
    experts = [
        expert(encoder(batch[name]))
        for name, encoder, expert in zip(
            model.modality_names,
            model.networks.encoders.values(),
            model.networks.experts.values(),
            strict=True,
        )
    ]
    loc = np.stack([expert.loc for expert in experts], axis=1)
    log_scale = np.stack([expert.log_scale for expert in experts], axis=1)
    return loc.astype(np.float64), np.exp(log_scale.astype(np.float64))


def losses_and_terms(model, batch, seed, beta=1.0):
    """The loss of each row `[B]`, and the terms of the joint posterior's bound."""
    weights = model.loss_weights(beta)
    terms = bounds.bound_terms(model, model.unpack_batch(batch), seed, weights)
    losses = [t.objective.loss(t.reconstruction, t.divergence, weights) for t in terms]
    return tf.add_n(losses), terms[0]


def loss_and_gradients(model, batch):
    """The evaluation loss of a batch and its gradients, None where there is none."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x=batch, training=False)
    return float(loss), tape.gradient(loss, model.trainable_variables)


def train_logs(model, batch):
    """Metrics of one training step alone; older Keras keeps averaging over steps."""
    model.reset_metrics()
    logs = model.train_on_batch(batch, return_dict=True)
    return {name: float(value) for name, value in logs.items()}
