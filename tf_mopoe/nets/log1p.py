"""Layer that takes the logarithm of counts, the first one of an encoder."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="tf_mopoe")
class Log1p(keras.layers.Layer):
    """Takes log(1 + x) of some columns and leaves the others unchanged.

    Example:
      >>> np.round(Log1p(columns=[1])(tf.constant([[5.0, 9.0]])).numpy(), 2)
      array([[5. , 2.3]], dtype=float32)

    Call arguments:
      x: Values `[..., C]` with counts in `columns`; negative counts are read as 0.

    Returns:
      Tensor of the shape of `x`.
    """

    def __init__(self, columns: Sequence[int], *, dtype="float32", **kwargs):
        """Initializes the layer.

        Args:
          columns: Indices of the counts along the last axis.
          dtype: Dtype of the computation; float16 overflows at counts above 65504.
          **kwargs: Keyword arguments of `keras.layers.Layer`.
        """
        super().__init__(dtype=dtype, **kwargs)
        self.columns = [int(column) for column in columns]
        self.built = True

    def call(self, x):
        """Runs the layer; see the class for arguments and results."""
        counts = np.zeros([x.shape[-1]], bool)
        counts[self.columns] = True
        # Other columns, and invalid counts, may be below -1, where the log is NaN.
        valid = ops.logical_and(counts, ops.logical_not(x < 0))
        return ops.where(counts, ops.log1p(ops.where(valid, x, 0.0)), x)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the input."""
        return input_shape

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "columns": self.columns}
