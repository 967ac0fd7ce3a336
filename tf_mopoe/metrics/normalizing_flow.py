"""A normalizing flow fitted to latents, for samples from the aggregate posterior.

Source: Dinh et al., Density Estimation Using Real NVP, ICLR 2017.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tf_mopoe.checks import whole_number
from tf_mopoe.metrics.aggregate_posterior import checked_latents
from tf_mopoe.metrics.seeds import checked_seed

#: Bound of the log-scale of a coupling.
MAX_LOG_SCALE = 2.0


def fit_flow(
    latents: np.ndarray,
    *,
    num_layers: int = 8,
    hidden: Sequence[int] = (128, 128),
    epochs: int = 100,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tfd.TransformedDistribution:
    """Fits affine couplings of a standard normal by maximum likelihood.

    y_1 = x_1,  y_2 = x_2 exp(s(x_1)) + t(x_1),  |s| < 2, in each layer

    Layers come in pairs, the second with the halves swapped. Each pair permutes the
    dimensions at random. All couplings start as the identity: the flow is a Gaussian
    with the means and variances of the latents. 10 % of the rows are held out, and the
    weights of the epoch with their highest log-likelihood are kept.

    Args:
      latents: Finite latents `[N, D]`, N at least 10, D at least 2, without a constant
        column; such as `aggregate_posterior_samples` returns.
      num_layers: Number of couplings.
      hidden: Widths of the hidden layers of each coupling's network.
      epochs: Number of passes over the rows.
      batch_size: Number of rows a step, at most those not held out.
      learning_rate: Initial learning rate of Adam; it falls to 0 along a cosine.
      seed: Seed of the networks' weights, of the split, and of the orders of rows and
        dimensions.
      progress: Wrapper of the iterable of epochs, e.g. `tqdm.tqdm`.

    Returns:
      A distribution with batch shape `[]` and event shape `[D]`, of the dtype of
      `latents`. The networks' weights are not among its `variables`.

    Raises:
      TypeError, ValueError: If an argument is not as described.

    Example:
      >>> latents = np.random.default_rng(0).normal(size=(20, 2))
      >>> flow = fit_flow(latents, num_layers=1, hidden=(4,), epochs=1)
      >>> flow.sample(3, seed=0).shape
      TensorShape([3, 2])
    """
    latents = checked_latents(latents, at_least=10)
    for name, value in (
        ("num_layers", num_layers),
        ("epochs", epochs),
        ("batch_size", batch_size),
        *(("hidden", width) for width in hidden),
    ):
        whole_number(name, value, minimum=1)
    seed = checked_seed(seed)
    if not 0 < learning_rate < math.inf:
        raise ValueError(
            f"`learning_rate` must be a positive number. Received: {learning_rate!r}."
        )
    if latents.shape[1] < 2:
        raise ValueError(
            "A flow of couplings needs `latents` of at least 2 dimensions. Received: "
            f"shape {latents.shape}. Use `fit_gaussian_mixture` instead."
        )
    rng = np.random.default_rng(seed)
    latents = rng.permutation(latents)
    num_held_out = len(latents) // 10
    held_out, training = latents[:num_held_out], latents[num_held_out:]
    flow, weights = _identity_flow(training, num_layers, tuple(hidden), rng)
    batch_size = min(batch_size, len(training))
    steps = len(training) // batch_size
    orders = (
        rng.permutation(len(training))[: steps * batch_size].reshape(steps, batch_size)
        for _ in progress(range(epochs))
    )
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps)
    optimizer = keras.optimizers.Adam(schedule)
    _maximise_likelihood(flow, weights, optimizer, training, held_out, orders)
    return flow


def _maximise_likelihood(flow, weights, optimizer, training, held_out, orders):
    """Trains, and restores the weights of the best epoch.

    Args:
      flow: Distribution to fit.
      weights: Weights of its networks.
      optimizer: Optimizer of the weights.
      training: Latents to fit, `[N, D]`.
      held_out: Latents to choose the epoch by, `[N', D]`.
      orders: Indices of the rows of each step, `[steps, B]`, one array an epoch.
    """
    optimizer.build(weights)
    training, held_out = tf.constant(training), tf.constant(held_out)

    @tf.function(autograph=False)
    def step(rows):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(tf.gather(training, rows)))
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))

    @tf.function(autograph=False)
    def score():
        return tf.reduce_mean(flow.log_prob(held_out))

    best_score = float(score())
    best = [weight.numpy() for weight in weights]
    for order in orders:
        for rows in order:
            step(tf.constant(rows))
        epoch_score = float(score())
        if epoch_score > best_score:
            best_score, best = epoch_score, [weight.numpy() for weight in weights]
    for weight, value in zip(weights, best):
        weight.assign(value)


def _identity_flow(training, num_layers, hidden, rng):
    """The flow before training, and its weights."""
    size = training.shape[1]
    loc, scale = training.mean(axis=0), training.std(axis=0)
    if not scale.all():
        raise ValueError(
            "No column of `latents` may be constant: its density would be infinite. "
            f"Received: constant columns {np.flatnonzero(scale == 0).tolist()}."
        )
    weights = []
    bijectors: list[tfb.Bijector] = [tfb.Shift(loc), tfb.Scale(scale)]
    for layer in range(num_layers):
        # Swapped halves: two layers together transform every dimension.
        order = np.arange(size)[::-1] if layer % 2 else rng.permutation(size)
        network = _network(size // 2, size - size // 2, hidden, training.dtype, rng)
        weights += network.trainable_variables
        coupling = tfb.RealNVP(
            num_masked=size // 2, shift_and_log_scale_fn=_shift_and_log_scale(network)
        )
        bijectors += [tfb.Permute(order.astype(np.int32)), coupling]
    base = tfd.MultivariateNormalDiag(np.zeros_like(loc), np.ones_like(scale))
    return tfd.TransformedDistribution(base, tfb.Chain(bijectors)), weights


def _network(inputs, outputs, hidden, dtype, rng) -> keras.Sequential:
    """From `[B, inputs]` to shift and log-scale `[B, 2 outputs]`, 0 at first."""
    layers = [
        keras.layers.Dense(
            width,
            activation="relu",
            kernel_initializer=keras.initializers.HeNormal(int(rng.integers(2**31))),
            dtype=dtype.name,
        )
        for width in hidden
    ]
    last = keras.layers.Dense(2 * outputs, kernel_initializer="zeros", dtype=dtype.name)
    network = keras.Sequential([*layers, last])
    network.build((None, inputs))
    return network


def _shift_and_log_scale(network):
    """The function that `tfb.RealNVP` takes; its closure keeps the network alive."""

    def shift_and_log_scale(x, output_units):
        flat = tf.reshape(x, [-1, x.shape[-1]])  # a single event has no batch
        shape = tf.concat([tf.shape(x)[:-1], [2 * output_units]], axis=0)
        parameters = tf.reshape(network(flat), shape)
        shift, log_scale = tf.split(parameters, 2, axis=-1)
        bound = MAX_LOG_SCALE
        return shift, bound * tf.tanh(log_scale / bound)

    return shift_and_log_scale
