"""Batches as served models take them: flat, named, every input required.

Every modality is a tensor `<modality>` beside a flag `has_<modality>` (bool `[B]`);
where the flag is False the values may be anything. A row with NaN or infinity in a
modality that is present yields NaN, and no row changes another's answer.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import tensorflow as tf

from tf_mopoe.models.batches import Batch

if TYPE_CHECKING:
    from tf_mopoe.models.multimodal_vae import MultimodalVAE

#: Before a modality's name: whether it is present in a row.
FLAG_PREFIX = "has_"
#: Larger magnitudes are read as this: sums in a network would overflow, and become NaN.
MAX_MAGNITUDE = 1e18

Tensors = dict[str, tf.Tensor]


class Request(NamedTuple):
    """A request as a batch of the model, and which of its rows are valid.

    Attributes:
      batch: Values and flags.
      finite: bool `[B]`: no present value is NaN or infinite.
      supported: bool `[B]`: all present values are in their likelihood's support.
    """

    batch: Batch
    finite: tf.Tensor
    supported: tf.Tensor


def value_spec(modality, likelihood) -> tf.TensorSpec:
    """Specification of a modality's tensor."""
    dtype = tf.int32 if likelihood.integer else tf.float32
    shape = [None, *modality.event_shape]
    return tf.TensorSpec(shape, dtype, name=modality.name)


def flag_spec(name: str) -> tf.TensorSpec:
    """Specification of a modality's flag."""
    return tf.TensorSpec([None], tf.bool, name=FLAG_PREFIX + name)


def read_request(
    model: "MultimodalVAE",
    values: Mapping[str, tf.Tensor],
    flags: Mapping[str, tf.Tensor],
    more: Sequence[tf.Tensor] = (),
) -> Request:
    """Reads values and flags of all modalities; see `Request`.

    Args:
      model: The model.
      values: Modality name to `[B, *event_shape]`, of all modalities.
      flags: Modality name to bool `[B]`, of all modalities.
      more: Other tensors of B rows.

    Raises:
      tf.errors.InvalidArgumentError: When run, if an input's shape is wrong.
    """
    checked, rows = {}, []
    for modality, likelihood in zip(model.modalities, model.likelihoods):
        name = modality.name
        value = tf.ensure_shape(values[name], [None, *modality.event_shape])
        known = _all_of_row(likelihood.supported(value))
        finite = tf.ones_like(known)
        if not likelihood.integer:
            finite = _all_of_row(tf.math.is_finite(value))
            value = tf.clip_by_value(value, -MAX_MAGNITUDE, MAX_MAGNITUDE)
        checked[name] = value
        rows += [tf.ensure_shape(flags[name], [None]), known, finite]
    rows += [tf.equal(x, x) for x in more]
    # Otherwise a single row would be broadcast. The name is part of the error.
    rows = tf.unstack(tf.stack(rows, name="all_inputs_must_have_the_same_rows"))
    present, finite_rows, supported = {}, [], []
    for index, name in enumerate(checked):
        flag, known, numbers = rows[3 * index : 3 * index + 3]
        supported.append(known | ~flag)
        finite_rows.append(numbers | ~flag)
        # An embedding has no row for an index that is not a class.
        integer = model.likelihoods[index].integer
        present[name] = flag & known if integer else flag
    # A server's batch mixes requests: one row's NaN must not fail the others' rows.
    batch = model.unpack_batch({**checked, "present": present}, check_values=False)
    return Request(
        batch, tf.reduce_all(finite_rows, axis=0), tf.reduce_all(supported, axis=0)
    )


def _all_of_row(elements: tf.Tensor) -> tf.Tensor:
    """bool `[B]` of bool `[B, ...]`."""
    return tf.reduce_all(elements, axis=list(range(1, elements.shape.rank)))


def with_nan(rows: tf.Tensor, outputs: Tensors) -> Tensors:
    """The outputs, NaN in `rows`, bool `[B]`: a ReLU may have hidden theirs."""
    marked = {}
    for name, output in outputs.items():
        event = output.shape[1:]
        # As `[B, N]`: in more dimensions this costs several times as much.
        flat = tf.reshape(output, [-1, event.num_elements()])
        nan = tf.constant(float("nan"), output.dtype)
        flat = tf.where(rows[:, tf.newaxis], nan, flat)
        marked[name] = tf.reshape(flat, [-1, *event])
    return marked


def export_saved_model(model: Any, filepath: Any, *, verbose: bool | None) -> None:
    """Writes a SavedModel whose one signature reconstructs every modality.

    Args:
      model: The model, in float32.
      filepath: Folder to write.
      verbose: Whether Keras prints what it wrote.
    """
    pairs = list(zip(model.modalities, model.likelihoods))
    specs = {m.name: value_spec(m, x) for m, x in pairs}
    specs |= {FLAG_PREFIX + m.name: flag_spec(m.name) for m, _ in pairs}

    def reconstruct(flat):
        values = {name: flat[name] for name in model.modality_names}
        flags = {name: flat[FLAG_PREFIX + name] for name in model.modality_names}
        request = read_request(model, values, flags)
        return with_nan(~request.finite, model.call(request.batch))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", reconstruct, input_signature=[specs])
    archive.write_out(filepath, verbose=verbose)
