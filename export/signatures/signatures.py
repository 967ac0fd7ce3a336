"""The signatures that are served: functions of flat, named, batched tensors.

Names are in `export.signatures.contract`. A row with NaN or infinity in a modality that
is present yields NaN. What is finite always has an answer: a class that the model does
not know counts as absent, and log p of a value outside the likelihood's support is
-infinity. No row changes another's answer; but an image file that is damaged in its
middle fails the batch, as TensorFlow's decoders do.
"""

import keyword
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import tensorflow as tf

from export.errors import UsageError
from export.signatures import contract, model_access, raw_inputs
from export.signatures.whole_numbers import check_whole
from tf_mopoe.models import MultimodalVAE


class Signature(NamedTuple):
    """One endpoint: a function of the flat inputs, and their specifications.

    Example:
        encode = make_signatures(model)["encode"]
        encode.function({key: tensors[key] for key in encode.inputs})["loc"]
    """

    function: Callable[[model_access.Tensors], model_access.Tensors]
    inputs: dict[str, tf.TensorSpec]


def make_signatures(
    model: MultimodalVAE,
    *,
    image_bytes: Iterable[str] = (),
    text_strings: Iterable[str] = (),
    num_samples: int = contract.NUM_SAMPLES,
) -> dict[str, Signature]:
    """The signatures of a model, by name.

    - `serving_default`: every modality's mean from the posterior mean of what is
      present.
    - `encode`: the posterior's `loc` and `scale`, `[B, D]`.
    - `impute`: every modality's mean from one draw of the posterior.
    - `sample`: every modality's mean from one draw of the prior.
    - `log_likelihood`: nats, float64 `[B]`, of what is present.

    Args:
      model: The model, in float32.
      image_bytes: Modalities that come as `<modality>_bytes`: JPEG or PNG files, string
        `[B]`, resized to the model's shape, in [0, 1].
      text_strings: Modalities that come as strings `[B]`, in the symbols of
        `tf_mopoe.data.texts`.
      num_samples: Number of importance samples K of `log_likelihood`.

    Raises:
      TypeError, ValueError: If `num_samples` is not an integer from 1 to a million, or
        names do not come as a sequence.
      UsageError: If a modality is not as described.

    Example:
      >>> from tf_mopoe import Modality, MoPoEVAE
      >>> model = MoPoEVAE([Modality("table", (5,))], latent_dim=2)
      >>> sorted(make_signatures(model)["impute"].inputs)
      ['has_table', 'seed', 'table']
    """
    num_samples = check_whole(
        "num_samples", num_samples, minimum=1, maximum=contract.MAX_SAMPLES
    )
    names = [field.name for field in model_access.fields_of(model)]
    check_names(names)
    images = _check_chosen("image_bytes", image_bytes, names)
    texts = _check_chosen("text_strings", text_strings, names)
    if both := sorted(images & texts):
        raise UsageError(f"image_bytes and text_strings both name {both}. Choose one.")
    raw = _RawInputs(model, images, texts)
    seed = {contract.SEED: tf.TensorSpec([None], tf.int64, name=contract.SEED)}

    def signature(name: str, answer: Callable) -> Signature:
        def function(flat: model_access.Tensors) -> model_access.Tensors:
            request = raw.read(flat)
            return model_access.with_nan(
                ~request.finite, answer(request, flat.get(contract.SEED))
            )

        is_random = name not in (contract.RECONSTRUCT, contract.ENCODE)
        return Signature(function, {**raw.inputs, **(seed if is_random else {})})

    answers = model_access.answers_of(model, num_samples)
    signatures = {name: signature(name, answer) for name, answer in answers.items()}
    signatures[contract.SAMPLE] = Signature(
        lambda flat: model_access.sample(model, flat[contract.SEED]), seed
    )
    return signatures


def _check_chosen(
    argument: str, names: Iterable[str], known: Sequence[str]
) -> frozenset[str]:
    if isinstance(names, str):
        raise TypeError(f"`{argument}` must be a list of names. Received: {names!r}.")
    chosen = frozenset(names)
    if unknown := sorted(chosen - set(known), key=str):
        raise UsageError(f"{argument} names {unknown}; this model has {list(known)}.")
    return chosen


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError if TensorFlow can't serve a name, or two would clash."""
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or name == "self":
            raise UsageError(
                f"modality {name!r} can't be served: TensorFlow takes as names of "
                "inputs only what Python takes as names of arguments. Rename it."
            )
        for other in (name + contract.BYTES_SUFFIX, name):
            alike = [n for n in names if n.lower() == other.lower() and n != name]
            if alike:
                raise UsageError(
                    f"modalities {name!r} and {alike[0]!r} can't be served together: "
                    "TensorFlow would not tell their inputs' names apart. Rename one."
                )


class _RawInputs:
    """The inputs of the modalities, as values, files or strings."""

    def __init__(self, model, images: frozenset[str], texts: frozenset[str]):
        self._model, self._fields = model, model_access.fields_of(model)
        self._images, self._texts = images, texts
        self.inputs: dict[str, tf.TensorSpec] = {}
        for field in self._fields:
            spec = field.spec
            if field.name in images:
                raw_inputs.check_image(field)
                spec = tf.TensorSpec(
                    [None], tf.string, name=field.name + contract.BYTES_SUFFIX
                )
            elif field.name in texts:
                raw_inputs.check_text(field)
                spec = tf.TensorSpec([None], tf.string, name=field.name)
            flag = model_access.flag_spec(field.name)
            self.inputs |= {spec.name: spec, flag.name: flag}

    def read(self, flat: model_access.Tensors) -> model_access.Request:
        """Values, flags and what is wrong with them."""
        flags = {f.name: flat[contract.FLAG_PREFIX + f.name] for f in self._fields}
        values = {
            field.name: self._value(
                flat, field, tf.ensure_shape(flags[field.name], [None])
            )
            for field in self._fields
        }
        seeds = (
            [tf.ensure_shape(flat[contract.SEED], [None])]
            if contract.SEED in flat
            else []
        )
        return model_access.read_request(self._model, values, flags, seeds)

    def _value(
        self, flat: model_access.Tensors, field: model_access.Field, flag: tf.Tensor
    ) -> tf.Tensor:
        if field.name in self._images:
            files = tf.ensure_shape(flat[field.name + contract.BYTES_SUFFIX], [None])
            return raw_inputs.decode_images(files, flag, field.event_shape)
        if field.name in self._texts:
            return raw_inputs.decode_text(
                tf.ensure_shape(flat[field.name], [None]), field
            )
        return flat[field.name]
