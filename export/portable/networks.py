"""The networks that are written to files: the encoders with their fusion, each decoder.

The signatures `impute`, `sample` and `log_likelihood` can't be written: they draw a
row's random numbers from its seed, with TensorFlow's StatelessRandomUniformFullIntV2
and Bitcast, which neither LiteRT nor ONNX has; LiteRT lacks most float64 arithmetic as
well. Files and strings can't be inputs either: send values. Instead of `impute`, draw
z = loc + scale * n, n standard normal, and run the decoders. `loc` and `scale` are the
mixture's mean and standard deviation, so that this z is Gaussian with the posterior's
moments, not a draw of the mixture itself.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from export.signatures.contract import ENCODE, FLAG_PREFIX
from export.signatures.model_access import Tensors, decode, fields_of
from export.signatures.signatures import Signature, make_signatures
from export.verification.examples import make_inputs, missing_patterns
from tf_mopoe.models import MultimodalVAE

#: Inputs of a decoder.
LATENT, STYLE = "z", "style"
#: Numbers of rows of the requests by which a file is checked.
BATCH_SIZES = (1, 3)

Arrays = dict[str, np.ndarray]


class Network(NamedTuple):
    """A function that becomes one file.

    Attributes:
      name: Name of the file, without its ending.
      function: Function from inputs by name to outputs by name.
      inputs: Input name to specification, the batch first and of any size.
      outputs: Names of the outputs.
      requests: Inputs for which the file's answers are compared.
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
      model: The model, in float32 and on one device.
      seed: Seed of the requests.

    Example:
      >>> from tf_mopoe import Modality, MoPoEVAE
      >>> model = MoPoEVAE([Modality("table", (5,))], latent_dim=2)
      >>> [network.name for network in networks_of(model)]
      ['encode', 'decode_table']
    """
    generator = np.random.default_rng(seed)
    signature = make_signatures(model)[ENCODE]
    yield Network(
        ENCODE,
        signature.function,
        signature.inputs,
        ("loc", "scale"),
        _encoder_requests(model, signature, generator),
    )
    for field in fields_of(model):
        sizes = {LATENT: model.latent_dim}
        if field.style_dim:
            sizes[STYLE] = field.style_dim
        yield Network(
            f"decode_{field.name}",
            _decoder(model, field.name),
            {
                key: tf.TensorSpec([None, size], tf.float32, name=key)
                for key, size in sizes.items()
            },
            (field.name,),
            [
                {
                    key: generator.standard_normal([rows, size], np.float32)
                    for key, size in sizes.items()
                }
                for rows in BATCH_SIZES
            ],
        )


def _decoder(model: MultimodalVAE, name: str) -> Callable[[Tensors], Tensors]:
    def function(inputs: Tensors) -> Tensors:
        return {name: decode(model, name, inputs[LATENT], inputs.get(STYLE))}

    return function


def _encoder_requests(
    model: MultimodalVAE, signature: Signature, generator: np.random.Generator
) -> list[Arrays]:
    """Every pattern of missing modalities, NaN or -1 in absent values."""
    fields = fields_of(model)
    present = missing_patterns(len(fields), generator)
    inputs = make_inputs(model, {ENCODE: signature}, present, generator)
    feed = {key: inputs[key] for key in signature.inputs}
    for field in fields:
        absent = ~feed[FLAG_PREFIX + field.name]
        feed[field.name][absent] = -1 if field.is_integer else np.nan
    return [
        {key: value[first : first + rows] for key, value in feed.items()}
        for rows in BATCH_SIZES
        for first in range(0, len(present), rows)
    ]
