"""Counts on a logarithmic scale, as the first layer of an encoder."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="tf_mopoe")
class Log1p(keras.layers.Layer):
    """log(1 + x) of some columns, the others as they are; in float32 by default.

    Call arguments:
      x: `[..., C]`, counts in `columns`; below 0 they are read as 0.

    Returns:
      `[..., C]`.
    """

    def __init__(self, columns: Sequence[int], *, dtype="float32", **kwargs):
        """Makes the layer.

        Args:
          columns: Indices along the last axis.
          dtype: Of the computation; in float16 counts above 65504 overflow.
          **kwargs: Of `keras.layers.Layer`.
        """
        super().__init__(dtype=dtype, **kwargs)
        self.columns = [int(column) for column in columns]
        self.built = True

    def call(self, x):
        """See the class."""
        counts = np.zeros([x.shape[-1]], bool)
        counts[self.columns] = True
        # Below -1 the logarithm is NaN: other columns may be, and counts that are none.
        valid = ops.logical_and(counts, ops.logical_not(x < 0))
        return ops.where(counts, ops.log1p(ops.where(valid, x, 0.0)), x)

    def compute_output_shape(self, input_shape):
        """That of the input."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "columns": self.columns}
