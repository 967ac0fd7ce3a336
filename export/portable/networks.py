"""What goes into a file of its own: the encoders with their fusion, and each decoder.

What can't go: the signatures `impute`, `sample` and `log_likelihood`. They draw a row's
random numbers from its seed, with TensorFlow's StatelessRandomUniformFullIntV2 and
Bitcast, which neither LiteRT nor ONNX has; LiteRT lacks most float64 arithmetic as
well. Nor files and strings as inputs: send values. In their place draw
z = loc + scale * n, n standard normal, and run the decoders. `loc` and `scale` are the
mixture's mean and standard deviation: that z is a Gaussian of the posterior's moments,
not a draw of the mixture itself.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from export.signatures.contract import ENCODE, FLAG_PREFIX
from export.signatures.signatures import make_signatures
from export.verification.examples import make_inputs, missing_patterns
from tf_mopoe.models import MultimodalVAE

#: Inputs of a decoder.
LATENT, STYLE = "z", "style"
#: Rows of the requests that a file is checked with.
BATCH_SIZES = (1, 3)

Tensors = dict[str, tf.Tensor]
Arrays = dict[str, np.ndarray]


class Network(NamedTuple):
    """A function that becomes one file.

    Attributes:
      name: Of the file, without its ending.
      function: From inputs by name to outputs by name.
      inputs: Input name to specification, the batch first and of any size.
      outputs: Names.
      requests: Inputs to compare the file's answers for.
    """

    name: str
    function: Callable[[Tensors], Tensors]
    inputs: dict[str, tf.TensorSpec]
    outputs: tuple[str, ...]
    requests: list[Arrays]


def networks_of(model: MultimodalVAE, seed: int = 0) -> Iterator[Network]:
    """The networks of a model.

    - `encode`: `<m>` and `has_<m>` of every modality m, to `loc` and `scale` `[B, D]`;
      the signature `encode`.
    - `decode_<m>`: `z` `[B, D]`, and `style` `[B, D_m]` where the modality has one, to
      `<m>`, its mean.

    Args:
      model: In float32, on one device.
      seed: Of the requests.
    """
    generator = np.random.default_rng(seed)
    signature = make_signatures(model)[ENCODE]
    yield Network(
        ENCODE,
        signature.function,
        signature.inputs,
        ("loc", "scale"),
        _encoder_requests(model, generator),
    )
    for modality in model.modalities:
        sizes = {LATENT: model.latent_dim}
        if modality.style_dim:
            sizes[STYLE] = modality.style_dim
        yield Network(
            f"decode_{modality.name}",
            _decoder(model, modality.name),
            {
                key: tf.TensorSpec([None, size], tf.float32, name=key)
                for key, size in sizes.items()
            },
            (modality.name,),
            [
                {
                    key: generator.standard_normal([rows, size], np.float32)
                    for key, size in sizes.items()
                }
                for rows in BATCH_SIZES
            ],
        )


def _decoder(model: MultimodalVAE, name: str) -> Callable[[Tensors], Tensors]:
    def decode(inputs: Tensors) -> Tensors:
        return {name: model.decode_modality(name, inputs[LATENT], inputs.get(STYLE))}

    return decode


def _encoder_requests(model, generator: np.random.Generator) -> list[Arrays]:
    """Every pattern of missing modalities, NaN or -1 in what is absent."""
    present = missing_patterns(len(model.modalities), generator)
    signatures = {ENCODE: make_signatures(model)[ENCODE]}
    inputs = make_inputs(model, signatures, present, generator)
    feed = {key: inputs[key] for key in signatures[ENCODE].inputs}
    for name in model.modality_names:
        absent = ~feed[FLAG_PREFIX + name]
        feed[name][absent] = -1 if feed[name].dtype.kind == "i" else np.nan
    return [
        {key: value[first : first + rows] for key, value in feed.items()}
        for rows in BATCH_SIZES
        for first in range(0, len(present), rows)
    ]
