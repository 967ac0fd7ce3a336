"""PolyMNIST: the published recipe, reproducibility, errors."""

import hashlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.made_digits import (
    left_behind,
    rows_of,
    write_backgrounds,
    write_digits,
)
from tf_mopoe.data import DataError
from tf_mopoe.data.digit_sources import Digits
from tf_mopoe.data.poly_mnist import Builder, PolyMnistConfig

NAMES = [f"m{m}" for m in range(5)]

pytestmark = pytest.mark.integration  # builds data sets of TFDS


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()


@pytest.fixture
def digits(tmp_path):
    return write_digits(tmp_path / "mnist.npz", train=30, test=10)


@pytest.fixture
def colours(tmp_path):
    return write_backgrounds(tmp_path / "photos")


def build(folder, **config):
    builder = Builder(config=PolyMnistConfig(**config), data_dir=folder / "tfds")
    builder.download_and_prepare()
    return builder


def made(folder, **config):
    return build(
        folder,
        backgrounds=folder / "photos",
        digits=folder / "mnist.npz",
        **config,
    )


def test_each_modality_shows_each_digit_once_inverted_on_its_background(
    tmp_path, digits, colours
):
    builder = made(tmp_path)
    for split in ("train", "test"):
        rows = rows_of(builder, split)
        masks = digits[f"x_{split}"] > 128
        labels = digits[f"y_{split}"]
        for m, name in enumerate(NAMES):
            on_digit = np.any(rows[name] != colours[m], axis=-1)  # [N, 28, 28]
            inverted = np.broadcast_to(255 - colours[m], rows[name].shape)
            np.testing.assert_array_equal(rows[name][on_digit], inverted[on_digit])
            # Random masks differ, so each tells which image it is of.
            actual = [
                int(np.flatnonzero((masks == mask).all(axis=(1, 2)))[0])
                for mask in on_digit
            ]
            assert sorted(actual) == list(range(len(masks)))
            np.testing.assert_array_equal(labels[actual], rows["label"])


def test_modalities_are_permuted_independently(tmp_path, digits, colours):
    rows = rows_of(made(tmp_path), "train")
    shown = [np.any(rows[name] != colours[m], axis=-1) for m, name in enumerate(NAMES)]
    same = (shown[0] == shown[1]).all(axis=(1, 2))
    assert not same.all()  # 3 images a digit: 10 of 30 agree on average


def test_crops_differ_and_cover_the_background(tmp_path, digits):
    (tmp_path / "photos").mkdir()
    rows, columns = np.indices((30, 32))
    canvas = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    for m in range(5):
        Image.fromarray(canvas).save(tmp_path / "photos" / f"{m}.png")
    images = rows_of(made(tmp_path), "train")["m0"].astype(int)
    corner = np.minimum(images[:, 0, 0], 255 - images[:, 0, 0])[:, :2]
    assert set(corner[:, 0]) == set(range(3))
    assert set(corner[:, 1]) == set(range(5))


def test_validation_images_form_separate_tuples(tmp_path, digits, colours):
    builder = made(tmp_path, validation=10)
    whole = {split: part.num_examples for split, part in builder.info.splits.items()}
    assert whole == {"train": 20, "validation": 10, "test": 10}
    rows = rows_of(builder, "validation")
    on_digit = np.any(rows["m2"] != colours[2], axis=-1)
    held = digits["x_train"][20:] > 128
    assert {mask.tobytes() for mask in on_digit} == {mask.tobytes() for mask in held}


def test_same_seed_gives_same_tuples_and_another_gives_others(tmp_path, digits):
    (tmp_path / "again").mkdir()
    first, other = (
        rows_of(build(tmp_path, digits=tmp_path / "mnist.npz", seed=s), "train")
        for s in (0, 1)
    )
    write_digits(tmp_path / "again" / "mnist.npz", train=30, test=10)
    again = rows_of(
        build(tmp_path / "again", digits=tmp_path / "again" / "mnist.npz"), "train"
    )
    for name in [*NAMES, "label"]:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["m0"], other["m0"])


def test_made_tuples_do_not_change_between_versions(tmp_path):
    arrays = {}
    for split, count in (("train", 20), ("test", 10)):
        images = np.zeros([count, 28, 28], np.uint8)
        images[np.arange(count), :, np.arange(count)] = 255
        arrays |= {f"x_{split}": images, f"y_{split}": np.arange(count) % 10}
    np.savez(tmp_path / "mnist.npz", **arrays)
    rows = rows_of(build(tmp_path, digits=tmp_path / "mnist.npz", seed=3), "train")
    order = np.argsort([rows["m0"][i].tobytes() for i in range(20)])
    digest = hashlib.sha256(b"".join(rows[n][order].tobytes() for n in NAMES))
    assert digest.hexdigest()[:16] == "5e7fab4439a2e1c9"


def test_other_files_or_seeds_are_other_data_sets(tmp_path, digits, colours):
    paths = {"backgrounds": tmp_path / "photos", "digits": tmp_path / "mnist.npz"}
    names = {
        PolyMnistConfig().name,
        PolyMnistConfig(seed=1).name,
        PolyMnistConfig(**paths).name,
        PolyMnistConfig(**paths, seed=1).name,
        PolyMnistConfig(digits=paths["digits"]).name,
    }
    before = PolyMnistConfig(**paths).name
    assert len(names) == 5
    Image.new("RGB", (40, 40), "red").save(tmp_path / "photos" / "photo2.png")
    assert PolyMnistConfig(**paths).name not in names
    write_digits(tmp_path / "mnist.npz", train=30, test=10, seed=1)
    assert PolyMnistConfig(digits=paths["digits"]).name not in names
    assert before in names


def test_without_a_file_the_digits_are_those_of_tfds(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    part = {
        "image": random.integers(256, size=(10, 28, 28, 1), dtype=np.uint8),
        "label": np.arange(10),
    }
    requested = {}

    def load(name, **kwargs):
        requested.update(name=name, **kwargs)
        return [part, part]

    monkeypatch.setattr(tfds, "load", load)
    monkeypatch.setattr(tfds, "as_numpy", lambda arrays: arrays)
    rows = rows_of(build(tmp_path), "test")
    assert sorted(rows["label"]) == list(range(10))
    assert requested["name"] == "mnist"
    assert requested["split"] == ["train", "test"]


def test_no_download_is_one_error_that_names_the_file_to_give(tmp_path, monkeypatch):
    def load(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds, "load", load)
    with pytest.raises(DataError, match=r"'mnist' \(ConnectionError.*mnist\.npz with"):
        build(tmp_path)
    assert not left_behind(tmp_path)


def damage_backgrounds(folder):
    path = folder / "photos" / "photo3.png"
    path.write_bytes(path.read_bytes()[:60])


def small_background(folder):
    Image.new("RGB", (27, 40)).save(folder / "photos" / "photo3.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_backgrounds, r"photo3\.png can't be read as an image"),
        (small_background, r"photo3\.png must have at least 28 x 28.*40 x 27"),
        (
            lambda folder: (folder / "photos" / "photo3.png").unlink(),
            r"photos must hold 5 images, one for each.*photo0\.png",
        ),
    ],
)
def test_wrong_backgrounds_are_one_error_and_nothing_is_left(
    damage, message, tmp_path, digits, colours
):
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        made(tmp_path)
    assert not left_behind(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backgrounds": "nowhere"}, "`backgrounds` must be a folder that exists"),
        ({"digits": "nowhere.npz"}, "`digits` must be a file that exists"),
        ({"seed": -1}, "`seed` must be a whole number from 0. Received: -1"),
        ({"seed": 1.5}, "`seed` must be a whole number"),
        ({"archive": ".", "seed": 1}, "have no effect on it"),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments, message):
    with pytest.raises(DataError, match=message):
        PolyMnistConfig(**arguments)


def test_an_error_while_writing_leaves_nothing(tmp_path, digits, monkeypatch):
    from tf_mopoe.data.poly_mnist import poly_mnist_dataset_builder as module

    make = module.make_examples

    def broken(digits: Digits, canvases, rng):
        examples = make(digits, canvases, rng)
        for _ in range(5):
            yield next(examples)
        raise DataError("the sixth is damaged")

    monkeypatch.setattr(module, "make_examples", broken)
    with pytest.raises(DataError, match="the sixth is damaged"):
        build(tmp_path, digits=tmp_path / "mnist.npz")
    assert not left_behind(tmp_path)
