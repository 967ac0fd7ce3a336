"""Convolutions whose padding is given in numbers, the same on both sides."""

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
    """Layers that together convolve n elements of every axis to

        floor((n + 2 padding - kernel) / stride) + 1,
        (n - 1) stride + kernel - 2 padding + output_padding    if transposed.

    Keras's "same" would pad an odd size, or for an odd kernel, on one side more.

    Args:
      channels: Of the output.
      kernel: Size along every axis, at least `stride`.
      stride: Along every axis.
      padding: Zeros added on both sides; if transposed, elements cropped there.
      rank: Axes to convolve along, 1 or 2.
      transposed: Whether to take the adjoint.
      output_padding: Elements cropped less at the end, at most `padding`.
      **kwargs: Of the Keras layer.

    Returns:
      One or two layers, to be called in turn.
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
