"""Image folders: pixels, matching by file name, formats, errors."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.tiny_models import loss_and_gradients, tiny_modality, tiny_model
from tf_mopoe.data.errors import DataError
from tf_mopoe.data.image_folders import from_image_folders

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path, array, **kwargs):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path, **kwargs)


def read_one(tmp_path, image_size, channels=3):
    images = from_image_folders({"x": tmp_path}, image_size, channels=channels)
    assert len(images.names) == 1
    return images.data["x"][0]


def test_images_of_the_size_asked_for_are_read_exactly(tmp_path):
    array = noise(5, 7, 3)
    save(tmp_path / "x.png", array)
    image = read_one(tmp_path, (5, 7))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, array)


def test_rows_are_the_sorted_union_of_names_and_holes_are_flagged(tmp_path):
    arrays = {name: noise(4, 4, 3, seed=i) for i, name in enumerate("abcdef")}
    save(tmp_path / "photo" / "10.png", arrays["a"])
    save(tmp_path / "photo" / "9.PNG", arrays["b"])
    save(tmp_path / "photo" / "x.y.bmp", arrays["c"])
    save(tmp_path / "sketch" / "9.bmp", arrays["d"])
    save(tmp_path / "sketch" / "z.webp", arrays["e"], lossless=True)
    images = from_image_folders(
        {"photo": tmp_path / "photo", "sketch": str(tmp_path / "sketch")}, (4, 4)
    )
    assert images.names == ["10", "9", "x.y", "z"]
    assert list(images.data) == ["photo", "sketch", "present"]
    zeros = np.zeros([4, 4, 3])
    np.testing.assert_array_equal(
        images.data["photo"], [arrays["a"], arrays["b"], arrays["c"], zeros]
    )
    np.testing.assert_array_equal(
        images.data["sketch"], [zeros, arrays["d"], zeros, arrays["e"]]
    )
    present = images.data["present"]
    np.testing.assert_array_equal(present["photo"], [True, True, True, False])
    np.testing.assert_array_equal(present["sketch"], [False, True, False, True])


def test_only_modalities_with_holes_have_flags(tmp_path):
    for path in ("a/1.png", "a/2.png", "b/1.png"):
        save(tmp_path / path, noise(2, 2, 3))
    images = from_image_folders({n: tmp_path / n for n in "ab"}, (2, 2))
    assert list(images.data["present"]) == ["b"]
    images = from_image_folders({"a": tmp_path / "a"}, (2, 2))
    assert "present" not in images.data


@pytest.mark.parametrize("extension", ["png", "JPG", "jpeg", "bmp", "gif", "WebP"])
def test_every_format_is_read_whatever_the_case_of_its_ending(tmp_path, extension):
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / f"x.{extension}")
    # JPEG, WebP and GIF's palette round colours.
    image = read_one(tmp_path, (4, 4)).astype(int)
    np.testing.assert_allclose(image, np.tile([200, 100, 50], (4, 4, 1)), atol=3)


def test_images_are_cut_around_the_centre(tmp_path):
    wide = np.full([4, 8, 3], RED, np.uint8)
    wide[:, 2:6] = noise(4, 4, 3)
    save(tmp_path / "x.png", wide)
    np.testing.assert_array_equal(read_one(tmp_path, (4, 4)), wide[:, 2:6])
    tall = np.full([10, 4, 3], BLUE, np.uint8)
    tall[4:6] = noise(2, 4, 3)
    save(tmp_path / "x.png", tall)
    np.testing.assert_array_equal(read_one(tmp_path, (2, 4)), tall[4:6])


def test_smaller_images_are_averages_and_not_samples(tmp_path):
    stripes = np.zeros([32, 32, 3], np.uint8)
    stripes[:, ::2] = 200
    save(tmp_path / "x.png", stripes)
    inner = read_one(tmp_path, (8, 8))[:, 1:-1].astype(int)
    np.testing.assert_allclose(inner, 100, atol=2)


def test_height_comes_first(tmp_path):
    image = np.full([6, 4, 3], RED, np.uint8)
    image[3:] = BLUE
    save(tmp_path / "x.png", image)
    small = read_one(tmp_path, (6, 4))
    np.testing.assert_array_equal(small[0], [RED] * 4)
    np.testing.assert_array_equal(small[5], [BLUE] * 4)


def test_grey_and_colour_are_converted_into_each_other(tmp_path):
    grey = noise(3, 3)
    save(tmp_path / "x.png", grey)
    np.testing.assert_array_equal(
        read_one(tmp_path, (3, 3)), np.repeat(grey[..., None], 3, -1)
    )
    np.testing.assert_array_equal(read_one(tmp_path, (3, 3), channels=1)[..., 0], grey)
    save(tmp_path / "x.png", np.full([3, 3, 3], GREEN, np.uint8))
    grey = read_one(tmp_path, (3, 3), channels=1)
    assert grey.shape == (3, 3, 1)
    np.testing.assert_array_equal(grey, 150)  # 0.587 of 255: ITU-R 601


def test_sixteen_bits_keep_their_range(tmp_path):
    deep = (np.arange(16, dtype=np.uint16) * 4369).reshape(4, 4)  # 0 to 65535
    save(tmp_path / "x.png", deep)
    image = read_one(tmp_path, (4, 4), channels=1)[..., 0]
    np.testing.assert_array_equal(image, np.arange(16).reshape(4, 4) * 17)
    np.testing.assert_array_equal(read_one(tmp_path, (4, 4))[..., 2], image)


def test_palettes_and_transparency_become_plain_colours(tmp_path):
    image = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_one(tmp_path, (2, 2))[0, 0], [10, 20, 30])
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, *GREEN])
    image.save(tmp_path / "x.png", transparency=bytes([255, 0]))
    np.testing.assert_array_equal(read_one(tmp_path, (2, 2))[0, 0], GREEN)


@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_images_are_taken_as_stored_as_served_models_take_them(tmp_path, orientation):
    stored = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "x.png", stored, exif=exif)
    np.testing.assert_array_equal(read_one(tmp_path, (4, 6)), stored)
    decoded = tf.io.decode_image((tmp_path / "x.png").read_bytes())
    np.testing.assert_array_equal(decoded, stored)


def test_other_files_hidden_files_and_folders_are_left_alone(tmp_path):
    save(tmp_path / "x.png", noise(2, 2, 3))
    (tmp_path / "labels.csv").write_text("x")
    (tmp_path / "._x.png").write_text("resource fork")
    (tmp_path / "deeper.png").mkdir()
    save(tmp_path / "deeper" / "y.png", noise(2, 2, 3))
    assert from_image_folders({"x": tmp_path}, (2, 2)).names == ["x"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"'a'.*{tmp_path}/nowhere"):
        from_image_folders({"a": tmp_path / "nowhere"}, (2, 2))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match=f"'a'.*{file}"):
        from_image_folders({"a": file}, (2, 2))


def test_a_folder_without_images_is_named_with_the_endings(tmp_path):
    (tmp_path / "x.tiff").write_text("")
    with pytest.raises(DataError, match=rf"'a'.*\.png.*\.webp.*{tmp_path}"):
        from_image_folders({"a": tmp_path}, (2, 2))


def test_two_files_of_one_name_are_named(tmp_path):
    for name in ("x.png", "x.JPG"):
        save(tmp_path / name, noise(2, 2, 3))
    with pytest.raises(DataError, match=r"'a'.*x\.JPG and .*x\.png"):
        from_image_folders({"a": tmp_path}, (2, 2))


def test_folders_without_a_name_in_common_are_refused_with_examples(tmp_path):
    save(tmp_path / "a" / "photo_1.png", noise(2, 2, 3))
    save(tmp_path / "b" / "depth_1.png", noise(2, 2, 3))
    with pytest.raises(DataError, match="'a': 'photo_1', 'b': 'depth_1'"):
        from_image_folders({n: tmp_path / n for n in "ab"}, (2, 2))


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "gif", "webp"])
def test_a_truncated_file_is_named(tmp_path, extension):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.{extension}", noise(30, 30, 3))
    path = tmp_path / f"b.{extension}"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=rf"b\.{extension} cannot be read as an image"):
        from_image_folders({"x": tmp_path}, (2, 2))


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(DataError, match=r"x\.png cannot be read as an image.*Remove"):
        from_image_folders({"x": tmp_path}, (2, 2))


@pytest.mark.parametrize("size", [5, (5,), (5, 5, 3), (0, 5), (5.0, 5), None, "55"])
def test_an_impossible_size_is_refused(tmp_path, size):
    with pytest.raises(
        (TypeError, ValueError), match=r"`image_size` must be \(height, width\)"
    ):
        from_image_folders({"x": tmp_path}, size)


@pytest.mark.parametrize("channels", [0, 2, 4, "RGB"])
def test_impossible_channels_are_refused(tmp_path, channels):
    with pytest.raises((TypeError, ValueError), match="`channels` must be 3"):
        from_image_folders({"x": tmp_path}, (2, 2), channels=channels)


def test_folders_that_are_not_as_described_are_refused(tmp_path):
    with pytest.raises(TypeError, match="`folders` must be a dictionary"):
        from_image_folders(tmp_path, (2, 2))
    with pytest.raises(ValueError, match="at least one modality"):
        from_image_folders({}, (2, 2))
    with pytest.raises(ValueError, match="key of the flags"):
        from_image_folders({"present": tmp_path}, (2, 2))


def test_a_model_takes_folders_with_missing_images(tmp_path):
    for i in range(6):
        save(tmp_path / "a" / f"{i}.png", noise(3, 3, 3, seed=i))
        if i % 2:
            save(tmp_path / "b" / f"{i}.png", noise(3, 3, seed=i))
    data = from_image_folders({n: tmp_path / n for n in "ab"}, (2, 2)).data
    data = {**data, **{n: (data[n] / 255).astype("float32") for n in "ab"}}
    model = tiny_model([tiny_modality(name, (2, 2, 3)) for name in "ab"])
    loss, gradients = loss_and_gradients(model, data)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
