"""Layers of the published networks in NumPy, float64, straight from their definitions.

Arrays are `[B, *sizes, channels]`; imports nothing from `tf_mopoe`.
"""

import numpy as np


def conv(x, kernel, bias=0.0, stride=1, padding=0):
    """y_i = bias + sum_k x_(stride i + k - padding) kernel_k, x being 0 outside.

    Args:
      x: `[B, *sizes, C]`.
      kernel: `[*kernel sizes, C, F]`.
      bias: `[F]`.
      stride: Along every axis.
      padding: Zeros on both sides of every axis.
    """
    sizes = kernel.shape[:-2]
    x = np.pad(
        x.astype(np.float64), [(0, 0), *[(padding, padding)] * len(sizes), (0, 0)]
    )
    counts = [(n - k) // stride + 1 for n, k in zip(x.shape[1:-1], sizes)]
    y = np.zeros([len(x), *counts, kernel.shape[-1]])
    for offset in np.ndindex(*sizes):
        window = _every(stride, offset, counts)
        y += x[window] @ kernel[offset].astype(np.float64)
    return y + bias


def transposed_conv(x, kernel, bias=0.0, stride=1, padding=0, output_padding=0):
    """y_(stride i + k - padding) = bias + sum of x_i kernel_k over all such i and k.

    Args:
      x: `[B, *sizes, C]`.
      kernel: `[*kernel sizes, F, C]`.
      bias: `[F]`.
      stride: Along every axis.
      padding: Elements cropped on both sides of every axis.
      output_padding: Elements cropped less at the end.
    """
    sizes, counts = kernel.shape[:-2], x.shape[1:-1]
    full = [(n - 1) * stride + k for n, k in zip(counts, sizes)]
    y = np.zeros([len(x), *full, kernel.shape[-2]])
    for offset in np.ndindex(*sizes):
        y[_every(stride, offset, counts)] += x @ kernel[offset].T.astype(np.float64)
    kept = [slice(padding, n - padding + output_padding) for n in full]
    return y[(slice(None), *kept)] + bias


def normalized(x, gamma, beta, mean, variance):
    """Batch normalisation with given statistics."""
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def relu(x):
    """max(x, 0)."""
    return np.maximum(x, 0.0)


def one_hot(indices, classes):
    """`[B, L]` to `[B, L, C]`."""
    return np.eye(classes)[indices]


def randomize(network, seed=0):
    """Gives a network normal weights that keep its values near 1; returns it.

    Statistics and factors of normalisation lie between 0.5 and 1.5.
    """
    rng = np.random.default_rng(seed)
    for variable in network.weights:
        shape = tuple(variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, size=shape))
        else:
            inputs = np.prod(shape[:-1]) if len(shape) > 1 else 4.0
            variable.assign(rng.normal(scale=inputs**-0.5, size=shape))
    return network


def arrays(layer):
    """A Keras layer's weights."""
    return [np.asarray(weight) for weight in layer.get_weights()]


def _every(stride, offset, counts):
    """Index of every `stride`th element from `offset`, `counts` of them."""
    steps = (slice(o, o + stride * (n - 1) + 1, stride) for o, n in zip(offset, counts))
    return (slice(None), *steps)
