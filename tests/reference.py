"""Results of the authors' published PyTorch code, and its random inputs."""

import functools
import pathlib

import numpy as np

FILE = pathlib.Path(__file__).parent / "data" / "reference.npz"

ENCODER_SHAPES = [
    (32, 3, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3), (16, 2048), (16, 16), (16, 16),
]  # fmt: skip
DECODER_SHAPES = [(2048, 16), (128, 64, 3, 3), (64, 32, 3, 3), (32, 3, 3, 3)]


@functools.cache
def load() -> dict[str, np.ndarray]:
    with np.load(FILE) as archive:
        return dict(archive)


def network_inputs(modality: int) -> np.ndarray:
    """Images of one modality, `[14, 28, 28, 3]` (stored channel first)."""
    seed = int(load()["network/seed"])
    random = np.random.RandomState(seed + 10 * modality + 2)
    images = random.random_sample((14, 3, 28, 28)).astype(np.float32)
    return images.transpose(0, 2, 3, 1)


def network_weights(modality: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Encoder's (with heads) and decoder's weights, in Keras's layouts and order."""
    encoder = _draw(modality, 0, ENCODER_SHAPES, transposed=False)
    decoder = _draw(modality, 1, DECODER_SHAPES, transposed=True)
    for weights in (encoder, decoder):
        for index in range(0, len(weights), 2):
            kernel = weights[index]
            # [out, in, h, w] -> [h, w, in, out]; transposed convolutions are
            # [in, out, h, w] -> [h, w, out, in]; dense [out, in] -> [in, out].
            weights[index] = (
                kernel.T if kernel.ndim == 2 else kernel.transpose(2, 3, 1, 0)
            )
    # Flattening is channel first there, channel last here.
    dense = encoder[6].reshape(128, 4, 4, 16)
    encoder[6] = dense.transpose(1, 2, 0, 3).reshape(2048, 16)
    decoder[0] = _channel_last(decoder[0])
    decoder[1] = _channel_last(decoder[1])
    return encoder, decoder


def _channel_last(units: np.ndarray) -> np.ndarray:
    shape = units.shape
    units = units.reshape(*shape[:-1], 128, 4, 4)
    return np.moveaxis(units, -3, -1).reshape(shape)


def _draw(modality, part, kernel_shapes, *, transposed):
    random = np.random.RandomState(int(load()["network/seed"]) + 10 * modality + part)
    weights = []
    for shape in kernel_shapes:
        deconvolution = transposed and len(shape) == 4
        fan = shape[0] * 9 / 4 if deconvolution else np.prod(shape[1:])
        outputs = shape[1] if deconvolution else shape[0]
        for size, scale in ((shape, np.sqrt(2 / fan)), ((outputs,), 0.05)):
            draw = scale * random.standard_normal(int(np.prod(size)))
            weights.append(draw.reshape(size).astype(np.float32))
    return weights
