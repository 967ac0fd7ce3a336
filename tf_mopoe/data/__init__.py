"""Data sets, tf.data pipelines, and data with holes."""

from tf_mopoe.data.missing import drop_at_random, mark_missing
from tf_mopoe.data.pipelines import ordered_batches, shuffled_batches
from tf_mopoe.data.polydigits import PolyDigits, load_polydigits

__all__ = [
    "PolyDigits",
    "drop_at_random",
    "load_polydigits",
    "mark_missing",
    "ordered_batches",
    "shuffled_batches",
]
