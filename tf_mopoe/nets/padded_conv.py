"""Convolutions with explicit padding, equal on both sides."""

import keras


def padded_conv(
    channels: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    rank: int = 2,
    transposed: bool = False,
    output_padding: int = 0,
    **kwargs,
) -> list[keras.layers.Layer]:
    """Returns layers that together are one convolution with symmetric padding.

    They map n elements along every axis to

        floor((n + 2 padding - kernel) / stride) + 1,
        (n - 1) stride + kernel - 2 padding + output_padding    if transposed.

    The padding "same" of Keras is not symmetric for odd sizes and odd kernels.

    Example:
      >>> len(padded_conv(8, kernel=4, stride=2, padding=1))  # ZeroPadding2D, Conv2D
      2

    Args:
      channels: Number of output channels.
      kernel: Size of the kernel along every axis, at least `stride`.
      stride: Stride along every axis.
      padding: Number of zeros added on both sides; if transposed, of elements cropped.
      rank: Number of axes to convolve along, 1 or 2.
      transposed: Whether to return the transposed convolution.
      output_padding: Number of elements that are not cropped at the end, at most
        `padding`.
      **kwargs: Keyword arguments of the Keras layer.

    Returns:
      One or two layers, to be called one after the other.
    """
    kind = f"Conv{rank}D" + ("Transpose" if transposed else "")
    layer = getattr(keras.layers, kind)(channels, kernel, strides=stride, **kwargs)
    if not padding:
        return [layer]
    if not transposed:
        return [getattr(keras.layers, f"ZeroPadding{rank}D")(padding), layer]
    sides = (padding, padding - output_padding)
    crop = getattr(keras.layers, f"Cropping{rank}D")(
        sides if rank == 1 else [sides] * 2
    )
    return [layer, crop]
