"""The signatures that are served: functions of flat, named, batched tensors.

Names are in `export.signatures.contract`. A row with NaN or infinity in a modality that
is present yields NaN. What is finite always has an answer: a class that the model does
not know counts as absent, and log p of a value outside the likelihood's support is
-infinity. No row touches another's answer; but an image file that is damaged in its
middle fails the batch, as TensorFlow's decoders do.
"""

import keyword
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import tensorflow as tf

from export.errors import UsageError
from export.signatures.contract import (
    BYTES_SUFFIX,
    ENCODE,
    FLAG_PREFIX,
    IMPUTE,
    LOG_LIKELIHOOD,
    MAX_SAMPLES,
    NUM_SAMPLES,
    RECONSTRUCT,
    SAMPLE,
    SEED,
)
from export.signatures.raw_inputs import (
    check_image,
    check_text,
    decode_images,
    decode_text,
)
from export.signatures.whole_numbers import check_whole
from tf_mopoe.models import MultimodalVAE
from tf_mopoe.models.serving_inputs import (
    Request,
    Tensors,
    flag_spec,
    read_request,
    value_spec,
    with_nan,
)


class Signature(NamedTuple):
    """One endpoint: a function of the flat inputs, and their specifications."""

    function: Callable[[Tensors], Tensors]
    inputs: dict[str, tf.TensorSpec]


def make_signatures(
    model: MultimodalVAE,
    *,
    image_bytes: Sequence[str] = (),
    text_strings: Sequence[str] = (),
    num_samples: int = NUM_SAMPLES,
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
      num_samples: K, number of importance samples of `log_likelihood`.

    Raises:
      TypeError, ValueError: If `num_samples` is no whole number from 1 to a million, or
        names do not come as a sequence.
      UsageError: If a modality is not as described.
    """
    num_samples = check_whole("num_samples", num_samples, least=1, most=MAX_SAMPLES)
    check_names(model.modality_names)
    images = _check_chosen("image_bytes", image_bytes, model)
    texts = _check_chosen("text_strings", text_strings, model)
    if both := sorted(images & texts):
        raise UsageError(f"image_bytes and text_strings both name {both}. Choose one.")
    raw = _RawInputs(model, images, texts)
    seed = {SEED: tf.TensorSpec([None], tf.int64, name=SEED)}

    def reconstruct(flat):
        request = raw.read(flat)
        return with_nan(~request.finite, model.reconstruct(request.batch))

    def encode(flat):
        request = raw.read(flat)
        q = model.posterior_of(request.batch)
        return with_nan(~request.finite, {"loc": q.mean(), "scale": q.stddev()})

    def impute(flat):
        request = raw.read(flat)
        answer = model.impute_by_row(request.batch, flat[SEED])
        return with_nan(~request.finite, answer)

    def log_likelihood(flat):
        request = raw.read(flat)
        value = model.log_likelihood_by_row(request.batch, flat[SEED], num_samples)
        value = tf.where(
            request.supported, value, tf.constant(-float("inf"), tf.float64)
        )
        return with_nan(~request.finite, {LOG_LIKELIHOOD: value})

    return {
        RECONSTRUCT: Signature(reconstruct, raw.inputs),
        ENCODE: Signature(encode, raw.inputs),
        IMPUTE: Signature(impute, {**raw.inputs, **seed}),
        SAMPLE: Signature(lambda flat: model.sample_by_row(flat[SEED]), seed),
        LOG_LIKELIHOOD: Signature(log_likelihood, {**raw.inputs, **seed}),
    }


def _check_chosen(
    field: str, names: Iterable[str], model: MultimodalVAE
) -> frozenset[str]:
    if isinstance(names, str):
        raise TypeError(f"`{field}` must be a list of names. Received: {names!r}.")
    chosen = frozenset(names)
    if unknown := sorted(chosen - set(model.modality_names), key=str):
        raise UsageError(
            f"{field} names {unknown}; this model has {list(model.modality_names)}."
        )
    return chosen


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError for names that TensorFlow can't serve, or that would clash."""
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or name == "self":
            raise UsageError(
                f"modality {name!r} can't be served: TensorFlow takes as names of "
                "inputs only what Python takes as names of arguments. Rename it."
            )
        for other in (name + BYTES_SUFFIX, name):
            alike = [n for n in names if n.lower() == other.lower() and n != name]
            if alike:
                raise UsageError(
                    f"modalities {name!r} and {alike[0]!r} can't be served together: "
                    "their inputs' names would be one to TensorFlow. Rename one."
                )


class _RawInputs:
    """The modalities' inputs, in whichever form they come.

    Attributes:
      inputs: Input name to specification.
    """

    def __init__(self, model, images: frozenset[str], texts: frozenset[str]):
        self._model = model
        self._images, self._texts = images, texts
        self.inputs: dict[str, tf.TensorSpec] = {}
        for modality, likelihood in zip(model.modalities, model.likelihoods):
            spec = value_spec(modality, likelihood)
            if modality.name in self._images:
                check_image(modality, likelihood)
                spec = tf.TensorSpec([None], tf.string, name=spec.name + BYTES_SUFFIX)
            elif modality.name in self._texts:
                check_text(modality, likelihood)
                spec = tf.TensorSpec([None], tf.string, name=spec.name)
            flag = flag_spec(modality.name)
            self.inputs |= {spec.name: spec, flag.name: flag}

    def read(self, flat: Tensors) -> Request:
        """Values, flags and what is wrong with them.

        Raises:
          tf.errors.InvalidArgumentError: When run, if an input's shape is wrong.
        """
        model, values = self._model, {}
        flags = {name: flat[FLAG_PREFIX + name] for name in model.modality_names}
        for modality, likelihood in zip(model.modalities, model.likelihoods):
            flag = tf.ensure_shape(flags[modality.name], [None])
            values[modality.name] = self._value(flat, modality, likelihood, flag)
        seeds = [tf.ensure_shape(flat[SEED], [None])] if SEED in flat else []
        return read_request(model, values, flags, seeds)

    def _value(self, flat, modality, likelihood, flag):
        if modality.name in self._images:
            files = tf.ensure_shape(flat[modality.name + BYTES_SUFFIX], [None])
            return decode_images(files, flag, modality.event_shape)
        if modality.name in self._texts:
            text = tf.ensure_shape(flat[modality.name], [None])
            return decode_text(text, modality, likelihood)
        return flat[modality.name]
