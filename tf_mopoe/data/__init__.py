"""Data sets and tf.data pipelines."""

from tf_mopoe.data.pipelines import ordered_batches, shuffled_batches
from tf_mopoe.data.polydigits import PolyDigits, load_polydigits

__all__ = ["PolyDigits", "load_polydigits", "ordered_batches", "shuffled_batches"]
