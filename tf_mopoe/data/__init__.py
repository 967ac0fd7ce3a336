"""Data sets, readers, tf.data pipelines, and missing modalities.

The TFDS builders are imported by name: `tf_mopoe.data.poly_mnist`,
`tf_mopoe.data.mnist_svhn_text`, `tf_mopoe.data.bimodal_celeba`.
"""

from tf_mopoe.data.annotated import from_anndata
from tf_mopoe.data.errors import DataError
from tf_mopoe.data.frames import from_frame
from tf_mopoe.data.holes import drop_at_random, drop_by_table, drop_depending_on
from tf_mopoe.data.image_folders import ImageFolders, from_image_folders
from tf_mopoe.data.missing import mark_missing
from tf_mopoe.data.pipelines import num_rows, ordered_batches, shuffled_batches
from tf_mopoe.data.polydigits import PolyDigits, load_polydigits
from tf_mopoe.data.texts import ALPHABET, decode_text, encode_text
from tf_mopoe.data.tfrecord_writer import write_tfrecords
from tf_mopoe.data.tfrecords import EncodedImage, from_tfrecords

__all__ = [
    "ALPHABET",
    "DataError",
    "EncodedImage",
    "ImageFolders",
    "PolyDigits",
    "decode_text",
    "drop_at_random",
    "drop_by_table",
    "drop_depending_on",
    "encode_text",
    "from_anndata",
    "from_frame",
    "from_image_folders",
    "from_tfrecords",
    "load_polydigits",
    "mark_missing",
    "num_rows",
    "ordered_batches",
    "shuffled_batches",
    "write_tfrecords",
]
