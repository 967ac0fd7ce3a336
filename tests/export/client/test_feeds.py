"""From batches to requests: what is sent, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from export.client import feeds
from export.client.batches import read_batch, read_seeded_batch
from export.client.errors import UnexpectedAnswer
from export.client.feeds import check_answer, join, split
from export.client.served_model import (
    ServedModel,
    Signature,
    Tensor,
    parse_metadata,
)
from export.client.target import Target
from export.signatures.row_seeds import row_seeds

FLOAT, INT, BOOL = (np.dtype(kind) for kind in (np.float32, np.int32, np.bool_))
SEED, STRING = Tensor(np.dtype(np.int64), ()), Tensor(np.dtype(object), ())
INPUTS = {
    "image": Tensor(FLOAT, (2, 3)),
    "label": Tensor(INT, ()),
    "photo_bytes": STRING,
    "text": STRING,
    **{f"has_{n}": Tensor(BOOL, ()) for n in ("image", "label", "photo", "text")},
}
SIGNATURE = Signature(INPUTS, {"loc": Tensor(FLOAT, (4,))})
SEEDED = Signature({**INPUTS, "seed": SEED}, SIGNATURE.outputs)
TARGET = Target("http://host", "model")
IMAGE = np.ones([3, 2, 3])


def make_feed(signature, inputs):
    return feeds.make_feed(signature, read_batch(inputs))


def test_modalities_are_found_by_their_flags():
    assert SIGNATURE.modality_inputs() == {
        "image": "image",
        "label": "label",
        "photo": "photo_bytes",
        "text": "text",
    }


def test_every_input_is_sent_with_zeros_and_empty_strings_where_missing():
    feed = make_feed(SIGNATURE, {"image": IMAGE})
    assert feed.keys() == INPUTS.keys()
    for name, tensor in INPUTS.items():
        assert feed[name].shape == (3, *tensor.event_shape)
        assert feed[name].dtype == tensor.dtype
    assert feed["has_image"].all()
    assert not any(feed[f"has_{name}"].any() for name in ("label", "photo", "text"))
    assert not feed["label"].any()
    assert feed["photo_bytes"].tolist() == feed["text"].tolist() == [b""] * 3


def test_values_that_are_missing_by_flag_are_not_sent():
    image = np.where(np.arange(3)[:, None, None] == 1, np.nan, IMAGE)
    flag = np.array([True, False, True])
    feed = make_feed(
        SIGNATURE,
        {
            "image": image,
            "label": [1.0, np.inf, 2.0],
            "text": ["a", "secret", "c"],
            "photo": [b"a", b"secret", b"c"],
            "present": dict.fromkeys(["image", "label", "text", "photo"], flag),
        },
    )
    assert feed["image"][:, 0, 0].tolist() == [1, 0, 1]
    assert feed["label"].tolist() == [1, 0, 2]
    assert feed["text"].tolist() == feed["photo_bytes"].tolist() == [b"a", b"", b"c"]
    for name in ("image", "label", "text", "photo"):
        assert feed[f"has_{name}"].tolist() == flag.tolist()
    assert np.isnan(image).any()  # the caller's arrays are as they were


def test_strings_are_bytes_and_none_is_missing():
    feed = make_feed(SIGNATURE, {"text": ["é", None, ""], "photo": [None, b"x", b"y"]})
    assert feed["text"].tolist() == ["é".encode(), b"", b""]
    assert feed["has_text"].tolist() == [True, False, True]
    assert feed["has_photo"].tolist() == [False, True, True]
    words = np.array(["a", "bc"])
    assert make_feed(SIGNATURE, {"text": words})["text"].tolist() == [b"a", b"bc"]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", np.nan, "é"], index=[5, 1, 3]),
        pd.Series(["a", None, "é"], dtype="category"),
        np.array(["a", None, "é"], object),
        [b"a", float("nan"), bytearray("é".encode())],
        ["a", np.float64("nan"), "é"],
    ],
)
def test_texts_may_be_a_column_with_nan_where_missing(column):
    feed = make_feed(SIGNATURE, {"text": column})
    assert feed["text"].tolist() == [b"a", b"", "é".encode()]
    assert {type(text) for text in feed["text"]} == {bytes}
    assert feed["has_text"].tolist() == [True, False, True]


@pytest.mark.parametrize("make", [np.array, tf.constant, pd.Series])
def test_files_and_texts_may_be_any_array_of_bytes(make):
    feed = make_feed(
        SIGNATURE, {"photo": make([b"x", b"yz"]), "text": make([b"", b"z"])}
    )
    assert feed["photo_bytes"].tolist() == [b"x", b"yz"]
    assert feed["text"].tolist() == [b"", b"z"]
    assert feed["has_photo"].all()
    assert feed["has_text"].all()


def test_flag_wins_over_nan_in_a_column():
    column, flag = pd.Series(["a", np.nan]), [True, True]
    with pytest.raises(TypeError, match="'text'.*Received float in row 1 of"):
        make_feed(SIGNATURE, {"text": column, "present": {"text": flag}})


@pytest.mark.parametrize(
    ("kind", "label_kind"),
    [
        (np.float64, np.float64),
        (np.float16, np.int64),
        (">f8", ">i2"),
        (np.longdouble, np.uint8),
        (np.float32, bool),
    ],
)
def test_numbers_are_cast_if_their_values_stay(kind, label_kind):
    feed = make_feed(
        SIGNATURE, {"image": IMAGE.astype(kind), "label": np.ones(3, label_kind)}
    )
    assert (feed["image"].dtype, feed["label"].dtype) == (FLOAT, INT)
    assert (feed["image"] == 1).all()
    assert (feed["label"] == 1).all()


def test_arrays_that_are_not_contiguous_keep_their_order():
    image = np.arange(36.0).reshape(3, 3, 4)[::-1, :2, 1:]
    feed = make_feed(SIGNATURE, {"image": image})
    assert feed["image"].tolist() == image.tolist()


SEQUENCE = "must be an array of numbers .* or a sequence of B files"


@pytest.mark.parametrize(
    ("inputs", "kind", "message"),
    [
        ([IMAGE], TypeError, "`inputs` must be a dictionary.*Received: list"),
        ({}, ValueError, "at least one modality"),
        ({"present": {}}, ValueError, "at least one modality"),
        ({"image": None}, TypeError, "'image' is None. Leave it out"),
        ({"imge": IMAGE}, ValueError, "Unknown modality 'imge'.*mean 'image'"),
        ({"has_image": IMAGE}, ValueError, "Unknown modality 'has_image'"),
        ({1: IMAGE}, ValueError, "Unknown modality 1"),
        ({"image": IMAGE[0]}, ValueError, r"'image' must have shape \[B, 2, 3\]"),
        ({"image": 1.0}, TypeError, f"'image' {SEQUENCE}.*: float"),
        ({"image": np.float64(1)}, TypeError, f"'image' {SEQUENCE}.*single float64"),
        ({"image": {0: IMAGE}}, TypeError, "'image' must be an array.*: dict"),
        ({"label": np.ones([3, 1])}, ValueError, r"\[B\]. Received: \[3, 1\]"),
        ({"image": [[1], [1, 2]]}, ValueError, "'image' must be an array"),
        ({"image": IMAGE + 0j}, TypeError, "'image' must hold numbers.*complex"),
        ({"image": IMAGE.astype(str)}, TypeError, "'image' must hold numbers"),
        ({"image": IMAGE.astype(object)}, TypeError, "'image' must hold.*object"),
        ({"image": [b"a", b"b"]}, TypeError, "'image' must hold numbers.*: bytes"),
        ({"image": IMAGE, "label": [1]}, ValueError, "'image': 3, 'label': 1"),
        ({"label": [0, np.nan]}, ValueError, "'label'.*whole.*nan in row 1.*\"present"),
        ({"label": [0, 1.5]}, ValueError, "'label'.*whole.*1.5 in row 1"),
        ({"label": [0, 2**31]}, ValueError, "'label'.*int32.*2147483648 in row 1"),
        ({"label": [0, None]}, TypeError, "'label'.*Received int in row 0"),
        ({"image": IMAGE * 1e39}, ValueError, "'image' must hold finite float32"),
        ({"image": IMAGE * np.inf}, ValueError, "'image'.*inf in row 0.*\"present\""),
        ({"text": "abc"}, TypeError, f"'text' {SEQUENCE}.*: str"),
        ({"text": [1]}, TypeError, "'text'.*Received int in row 0"),
        ({"text": ["a", 1]}, TypeError, "'text'.*Received int in row 1"),
        ({"text": ["\ud800"]}, ValueError, "'text'.*UTF-8.*row 0"),
        ({"text": [b"\xff\xd8\xff"]}, ValueError, "'text'.*UTF-8.*row 0"),
        ({"text": np.array("a")}, TypeError, f"'text' {SEQUENCE}"),
        ({"photo": b"abc"}, TypeError, f"'photo' {SEQUENCE}"),
        ({"photo": bytearray(2)}, TypeError, f"'photo' {SEQUENCE}"),
        ({"photo": "abc"}, TypeError, f"'photo' {SEQUENCE}.*: str"),
        ({"photo": IMAGE}, TypeError, "'photo' must be a sequence of bytes.*float64"),
        ({"text": np.str_("abc")}, TypeError, f"'text' {SEQUENCE}"),
        ({"photo": ["abc"]}, TypeError, "'photo'.*Received str in row 0"),
        ({"photo": [b"a", b""]}, ValueError, "'photo' has an empty file in row 1"),
        ({"photo": 3}, TypeError, f"'photo' {SEQUENCE}"),
    ],
)
def test_wrong_batches_are_refused_by_name(inputs, kind, message):
    with pytest.raises(kind, match=message) as caught:
        make_feed(SIGNATURE, inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("present", "kind", "message"),
    [
        ([True], TypeError, "`present` must be a dictionary"),
        ({"label": [True] * 3}, ValueError, "modality 'label', but there are no"),
        ({"other": [True] * 3}, ValueError, "modality 'other', but there are no"),
        ({"image": [1, 0, 1]}, TypeError, "bool for modality 'image'. Received: int"),
        ({"image": None}, TypeError, "bool for modality 'image'. Received: object"),
        ({"image": [True]}, ValueError, r"shape \[3\] for modality 'image'.*\[1\]"),
        ({"image": True}, ValueError, r"shape \[3\].*Received: \[\]"),
        ({"text": [True] * 3}, TypeError, "'text'.*NoneType in row 1"),
    ],
)
def test_wrong_flags_are_refused_by_name(present, kind, message):
    inputs = {"image": IMAGE, "text": ["a", None, "b"], "present": present}
    with pytest.raises(kind, match=message):
        make_feed(SIGNATURE, inputs)


def test_seeds_of_rows_do_not_depend_on_how_a_request_is_split():
    feed = feeds.make_feed(SEEDED, read_seeded_batch({"label": np.zeros(5)}, 7))
    chunks = list(split(feed, 2))
    assert [chunk["label"].shape for chunk in chunks] == [(2,), (2,), (1,)]
    assert [chunk["seed"].tolist() for chunk in chunks] == [
        row_seeds(7, 2).tolist(),
        row_seeds(7, 2, first_row=2).tolist(),
        row_seeds(7, 1, first_row=4).tolist(),
    ]


def test_answers_are_put_together_in_order_with_the_served_dtype():
    parts = [
        check_answer(SIGNATURE, {"loc": [[row] * 4]}, 1, TARGET) for row in range(3)
    ]
    answer = join(SIGNATURE, parts)["loc"]
    assert answer.dtype == FLOAT
    assert answer[:, 0].tolist() == [0, 1, 2]
    assert join(SIGNATURE, [])["loc"].shape == (0, 4)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, r"has \[\], not \['loc'\]"),
        ({"loc": [[0] * 4], "x": 1}, r"has \['loc', 'x'\]"),
        ({"loc": [[0] * 3]}, r"'loc' is not an array of float32 \[1, 4\]"),
        ({"loc": [["a"] * 4]}, "'loc' is not an array of float32"),
        ({"loc": 1.0}, "'loc' is not an array of float32"),
    ],
)
def test_answers_of_another_form_are_refused_by_name(answer, message):
    with pytest.raises(
        UnexpectedAnswer, match=f"model 'model' at http://host: .*{message}"
    ):
        check_answer(SIGNATURE, answer, 1, TARGET)


def test_metadata_of_another_form_are_refused():
    for metadata in ({}, [], {"metadata": {"signature_def": {}}}, None):
        with pytest.raises(UnexpectedAnswer, match="at http://host: the metadata"):
            parse_metadata(metadata, TARGET)


def test_missing_signature_is_named_with_the_others():
    with pytest.raises(ValueError, match=r"no signature 'sample'; it has \['encode'\]"):
        ServedModel({"encode": SIGNATURE}, 0.0).signature("sample")
