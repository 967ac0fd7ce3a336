"""Images as files and texts as strings give the answers of their values."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from export.errors import UsageError
from export.signatures import raw_inputs
from export.signatures.raw_inputs import decode_images
from export.signatures.signatures import make_signatures
from tests.export.signature_calls import ask
from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.data.texts import ALPHABET


def encoded(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def raw_model():
    return MoPoEVAE(
        [
            Modality("photo", (8, 6, 3)),
            Modality("grey", (4, 4, 1)),
            Modality("text", (5, len(ALPHABET)), likelihood="categorical"),
            Modality(
                "code", (3,), likelihood="integer_categorical",
                num_classes=len(ALPHABET),
            ),
        ],
        latent_dim=2,
        seed=0,
    )  # fmt: skip


RAW = {"image_bytes": ["photo", "grey"], "text_strings": ["text", "code"]}


def raw_request(photos, rows=2):
    return {
        "photo_bytes": np.array(photos, object),
        "grey_bytes": np.array([b""] * rows, object),
        "text": np.array(["Two!", "longer"], object),
        "code": np.array([b"a", b""], object),
        "seed": np.arange(rows),
        **{f"has_{x}": np.array([True] * rows) for x in ("photo", "text", "code")},
        "has_grey": np.array([False] * rows),
    }  # fmt: skip


def test_files_and_strings_answer_as_the_values_they_stand_for(raw_model):
    pixels = np.random.default_rng(0).integers(0, 256, [2, 8, 6, 3], np.uint8)
    photos = [encoded(pixels[0], "PNG"), encoded(pixels[1], "JPEG")]
    answer = ask(raw_model, "encode", raw_request(photos), **RAW)
    shown = [np.asarray(Image.open(io.BytesIO(photo))) for photo in photos]
    text = [[ALPHABET.index(c) for c in word] for word in ("two! ", "longe")]
    code = [[ALPHABET.index(c) for c in word] for word in ("a  ", "   ")]
    expected = raw_model.encode(
        {
            "photo": np.stack(shown) / np.float32(255.0),
            "text": np.eye(len(ALPHABET), dtype=np.float32)[text],
            "code": np.array(code),
        }
    )
    # JPEG decoders may differ by a step of brightness.
    for key in ("loc", "scale"):
        np.testing.assert_allclose(answer[key][0], expected[key][0], rtol=1e-5)
        np.testing.assert_allclose(answer[key][1], expected[key][1], atol=2e-2)


def test_images_of_other_sizes_are_cut_and_resized_as_the_folders_are(raw_model):
    smooth = np.linspace(0, 255, 40 * 20).reshape(40, 20)
    pixels = np.stack([smooth, smooth[::-1], smooth.T.reshape(40, 20)], -1)
    pixels = pixels.astype(np.uint8)
    fitted = ImageOps.fit(Image.fromarray(pixels), (6, 8), Image.Resampling.BICUBIC)
    photo = np.asarray(fitted, np.float32)[None] / 255.0
    answer = ask(
        raw_model, "serving_default", raw_request([encoded(pixels, "PNG")] * 2), **RAW
    )
    seen = decode_images(
        tf.constant([encoded(pixels, "PNG")]), tf.constant([True]), (8, 6, 3)
    )
    assert np.abs(seen.numpy() - photo).mean() < 0.02
    assert np.isfinite(answer["photo"]).all()


def test_file_that_is_not_an_image_yields_nan_and_a_damaged_one_is_refused(
    raw_model,
):
    noise = np.random.default_rng(0).integers(0, 256, [8, 6, 3], np.uint8)
    good, jpeg = encoded(noise, "PNG"), encoded(noise, "JPEG")
    for bad in (b"GIF89a...", b"", good[:-9], jpeg[:-30], b"\xff\xd8\xff\xd9"):
        answer = ask(raw_model, "encode", raw_request([good, bad]), **RAW)
        assert np.isfinite(answer["loc"][0]).all()
        assert np.isnan(answer["loc"][1]).all()
    damaged = good[:45] + bytes(20) + good[65:]
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(raw_model, "encode", raw_request([good, damaged]), **RAW)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_that_would_fill_the_memory_are_not_decoded(kind, monkeypatch):
    file = encoded(np.zeros([20, 30, 3], np.uint8), kind)
    for most, seen in ((600, True), (599, False)):
        monkeypatch.setattr(raw_inputs, "MAX_PIXELS", most)
        image = decode_images(tf.constant([file]), tf.constant([True]), (8, 6, 3))
        assert np.isfinite(image).all() == seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_bytes": ["phot"]}, r"image_bytes names \['phot'\]; this model has"),
        ({"image_bytes": ["text"]}, "image_bytes must name images"),
        ({"text_strings": ["photo"]}, "text_strings must name text in the 71 symbols"),
    ],
)
def test_modalities_that_can_not_be_served_are_refused(raw_model, options, message):
    with pytest.raises(UsageError, match=message):
        make_signatures(raw_model, **options)
