"""Estimates of log-likelihoods from importance weights."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class LogLikelihoodEstimate(NamedTuple):
    """An estimate of a log-likelihood, and how far to trust it.

    Attributes:
      log_likelihood: Nats, float64 `[B]`; so are the others.
      standard_error: Of it, by the delta method, nats, `[B]`. NaN of the published
        estimator, and of one sample.
      effective_sample_size: (sum w)^2 / sum w^2, from 1 to K, `[B]`; of a conditional
        one the smaller of its two. Near 1 the estimate lies below the truth, and its
        standard error is too small.
    """

    log_likelihood: tf.Tensor
    standard_error: tf.Tensor
    effective_sample_size: tf.Tensor


def estimate_from_weights(log_weights: tf.Tensor) -> LogLikelihoodEstimate:
    """log (1/K) sum_k w_k with its standard error.

    Args:
      log_weights: `[K, B]`, nats, K known.
    """
    log_weights = tf.cast(log_weights, tf.float64)
    count = log_weights.shape[0]
    largest = tf.reduce_max(log_weights, axis=0)
    # Where no sample has any density, the estimate is -inf.
    largest = tf.where(largest > -np.inf, largest, 0.0)
    relative = tf.exp(log_weights - largest)
    mean = tf.reduce_mean(relative, axis=0)
    spread = tf.reduce_sum(tf.square(relative - mean), axis=0) / max(count - 1, 1)
    error = tf.sqrt(spread / count) / mean
    if count == 1:
        error = tf.fill(tf.shape(mean), tf.constant(np.nan, tf.float64))
    size = tf.square(count * mean) / tf.reduce_sum(tf.square(relative), axis=0)
    return LogLikelihoodEstimate(largest + tf.math.log(mean), error, size)


def published_estimate(log_weights: tf.Tensor) -> LogLikelihoodEstimate:
    """log w `[K, B]` read as if `[B, K]`, as the published code of Sutter et al. does.

    Args:
      log_weights: `[K, B]`, nats, of known shape.
    """
    log_weights = tf.cast(log_weights, tf.float64)
    count, rows = log_weights.shape
    misread = tf.reshape(log_weights, [rows, count])
    value = tf.reduce_logsumexp(misread, axis=1) - np.log(count)
    unknown = tf.fill([rows], tf.constant(np.nan, tf.float64))
    return LogLikelihoodEstimate(value, unknown, unknown)
