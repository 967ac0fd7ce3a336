"""Data sets, tf.data pipelines, and data with holes."""

from tf_mopoe.data.errors import DataError
from tf_mopoe.data.holes import drop_at_random, drop_by_table, drop_depending_on
from tf_mopoe.data.missing import mark_missing
from tf_mopoe.data.pipelines import num_rows, ordered_batches, shuffled_batches
from tf_mopoe.data.polydigits import PolyDigits, load_polydigits
from tf_mopoe.data.texts import ALPHABET, decode_text, encode_text

__all__ = [
    "ALPHABET",
    "DataError",
    "PolyDigits",
    "decode_text",
    "drop_at_random",
    "drop_by_table",
    "drop_depending_on",
    "encode_text",
    "load_polydigits",
    "mark_missing",
    "num_rows",
    "ordered_batches",
    "shuffled_batches",
]
