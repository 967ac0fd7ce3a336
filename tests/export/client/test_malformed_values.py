"""Any value given for a modality is sent exactly, or refused with its name."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export.client.batches import read_batch
from export.client.feeds import make_feed
from export.client.served_model import Signature, Tensor

FLOAT, INT, BOOL, STRING = (
    np.dtype(kind) for kind in (np.float32, np.int32, np.bool_, object)
)
#: Input to what is served: reals `[B, 2]`, classes `[B]`, files and texts.
INPUTS = {
    "reals": Tensor(FLOAT, (2,)),
    "classes": Tensor(INT, ()),
    "photo_bytes": Tensor(STRING, ()),
    "text": Tensor(STRING, ()),
    **{f"has_{n}": Tensor(BOOL, ()) for n in ("reals", "classes", "photo", "text")},
}
SIGNATURE = Signature(INPUTS, {})
NAMES = SIGNATURE.modality_inputs()

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.dates(),
    st.just(np.ma.masked),
    st.builds(object),
)
ARRAYS = arrays.arrays(
    arrays.scalar_dtypes(), st.sampled_from([(), (0,), (2,), (0, 2), (2, 2), (1, 2, 1)])
)
MASKED = st.builds(
    lambda array, mask: np.ma.array(array, mask=mask), ARRAYS, st.just(1)
)
JUNK = st.recursive(
    st.one_of(SCALARS, ARRAYS, MASKED),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.integers(), inner, max_size=1),
        st.lists(SCALARS, max_size=3).map(lambda items: np.array([*items, None])[:-1]),
    ),
    max_leaves=4,
)


def is_missing(value):
    return value is None or (isinstance(value, float) and math.isnan(value))


def attempt(inputs):
    """The feed, or what a refusal says."""
    try:
        with np.errstate(all="ignore"):
            return make_feed(SIGNATURE, read_batch(inputs)), ""
    except (TypeError, ValueError) as error:
        return None, str(error)


@given(name=st.sampled_from(sorted(NAMES)), junk=JUNK)
def test_values_arrive_exactly_or_are_refused_by_name(name, junk):
    feed, refusal = attempt({name: junk})
    if feed is None:
        assert repr(name) in refusal
        assert "\n" not in refusal
        return
    sent, present = feed[NAMES[name]], feed[f"has_{name}"]
    assert not np.ma.is_masked(junk)
    assert len(sent) == len(present) == len(junk)
    if name == "reals":
        given = np.asarray(junk)
        assert given.dtype.kind == "f"
        assert present.all()
        assert np.array_equal(sent, given.astype(np.float32))
    elif name == "classes":
        assert present.all()
        assert sent.tolist() == np.asarray(junk).tolist()
    else:
        items = np.asarray(junk, object).tolist()
        assert present.tolist() == [not is_missing(item) for item in items]
        for item, content in zip(items, sent):
            if not is_missing(item):
                expected = item.encode() if isinstance(item, str) else item
                assert content == expected


@given(name=st.sampled_from(sorted(NAMES)), flag=JUNK)
def test_flags_arrive_exactly_or_are_refused_by_name(name, flag):
    values = {"reals": [[0.5, 1.5]] * 2, "classes": [0, 1]}
    values |= {"photo": [b"a", b"b"], "text": ["a", "b"]}
    inputs = {name: values[name], "present": {name: flag}}
    feed, refusal = attempt(inputs)
    if feed is None:
        assert repr(name) in refusal
        assert "`present`" in refusal
        return
    assert all(np.asarray(one).dtype == bool for one in flag)
    assert feed[f"has_{name}"].tolist() == [bool(one) for one in flag]
