"""Estimates of log-likelihoods from importance weights."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class LogLikelihoodEstimate(NamedTuple):
    """Estimate of a log-likelihood, with its precision; all fields are float64 `[B]`.

    Attributes:
      log_likelihood: Estimate in nats.
      standard_error: Standard error of the estimate in nats, by the delta method. NaN
        for the published estimator and for a single sample.
      effective_sample_size: Effective sample size (sum w)^2 / sum w^2, from 1 to K; for
        a conditional likelihood the smaller of its two. If it is near 1, the estimate
        lies below the true value and the standard error is too small.

    Example:
      >>> estimate = LogLikelihoodEstimate(
      ...     log_likelihood=tf.constant([-3.5], tf.float64),
      ...     standard_error=tf.constant([0.1], tf.float64),
      ...     effective_sample_size=tf.constant([80.0], tf.float64),
      ... )
      >>> low = estimate.log_likelihood - 2 * estimate.standard_error
      >>> round(float(low[0]), 6)
      -3.7
    """

    log_likelihood: tf.Tensor
    standard_error: tf.Tensor
    effective_sample_size: tf.Tensor


def estimate_from_weights(log_weights: tf.Tensor) -> LogLikelihoodEstimate:
    """Returns log (1/K) sum_k w_k with its standard error.

    Example:
      >>> estimate = estimate_from_weights(tf.math.log([[0.2], [0.2], [0.2]]))
      >>> round(float(estimate.effective_sample_size[0]), 3)
      3.0

    Args:
      log_weights: Log-weights in nats, `[K, B]`, with K known statically.
    """
    log_weights = tf.cast(log_weights, tf.float64)
    count = log_weights.shape[0]
    largest = tf.reduce_max(log_weights, axis=0)
    # If no sample has any density, the estimate is -inf.
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
    """Returns the estimate of the published code, which confuses two axes.

    The code of Sutter et al. reads log w `[K, B]` as if it were `[B, K]`.

    Args:
      log_weights: Log-weights in nats, `[K, B]`, with a static shape.
    """
    log_weights = tf.cast(log_weights, tf.float64)
    count, rows = log_weights.shape
    misread = tf.reshape(log_weights, [rows, count])
    value = tf.reduce_logsumexp(misread, axis=1) - np.log(count)
    unknown = tf.fill([rows], tf.constant(np.nan, tf.float64))
    return LogLikelihoodEstimate(value, unknown, unknown)
