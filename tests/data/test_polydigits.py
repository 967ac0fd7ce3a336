"""PolyDigits follows the PolyMNIST recipe, deterministically, without leaking."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tf_mopoe.data.polydigits import MODALITIES, backgrounds, load_polydigits

SPLITS = ("train", "validation", "test")
DARK = (True, False, True, False, True)  # which backgrounds are dark, by modality
PAIRINGS = 2


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.fixture(scope="module")
def splits():
    return {split: load_polydigits(split, pairings=PAIRINGS) for split in SPLITS}


def luminance(images):
    """Rec. 709 weights on uint8 [..., 3], in [0, 1]: [...]."""
    return images / 255.0 @ np.array([0.2126, 0.7152, 0.0722])


def digit_mask(images, m):
    """Where images [..., 3] of modality m are on the other side of mid-grey: [...]."""
    return (luminance(images) < 0.5) != DARK[m]


def test_shapes_and_types_are_as_documented(splits):
    for data in splits.values():
        n = len(data.labels)
        assert tuple(data.images) == MODALITIES
        for images in data.images.values():
            assert images.shape == (n, 28, 28, 3)
            assert images.dtype == np.uint8
        assert data.labels.shape == (n,)
        assert data.sources.shape == (n, 5)
        assert data.labels.dtype == data.sources.dtype == np.int64


def test_splits_share_no_source_image_and_cover_all(splits, digits):
    used = [np.unique(splits[split].sources) for split in SPLITS]
    everything = np.concatenate(used)
    assert len(everything) == len(digits.target) == 1797
    np.testing.assert_array_equal(np.sort(everything), np.arange(1797))


def test_splits_are_stratified_70_10_20(splits, digits):
    per_class = np.bincount(digits.target)
    for split, fraction in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
        used = np.unique(splits[split].sources)
        counts = np.bincount(digits.target[used], minlength=10)
        # Each of a part's two cuts is rounded to a whole image.
        assert np.abs(counts - fraction * per_class).max() <= 1.0


def test_all_modalities_of_a_tuple_show_its_class(splits, digits):
    for data in splits.values():
        np.testing.assert_array_equal(
            digits.target[data.sources], np.tile(data.labels[:, np.newaxis], 5)
        )
        assert set(data.labels) == set(range(10))


def test_modalities_of_a_tuple_mostly_show_different_images(splits):
    sources = splits["train"].sources
    for a in range(5):
        for b in range(a):
            # Two independent permutations of n images agree at 1 place on average,
            # here in 10 classes and 2 pairings: 20 of 2516 tuples.
            assert np.mean(sources[:, a] == sources[:, b]) < 0.03


def test_each_pairing_uses_every_image_once_a_modality(splits):
    for data in splits.values():
        pairings = np.split(data.sources, PAIRINGS)
        for sources in pairings:
            for m in range(5):
                np.testing.assert_array_equal(
                    np.sort(sources[:, m]), np.unique(data.sources)
                )
        assert not np.array_equal(*pairings)


def test_modalities_are_permuted_independently_in_every_pairing(splits):
    first, second = np.split(splits["train"].sources, PAIRINGS)
    partner_of_first = dict(first[:, :2])
    partner_of_second = dict(second[:, :2])
    kept = [partner_of_second[k] == v for k, v in partner_of_first.items()]
    assert np.mean(kept) < 0.03


def test_prefix_is_roughly_class_balanced(splits):
    counts = np.bincount(splits["train"].labels[:500], minlength=10)
    assert counts.min() > 25  # 50 expected, standard deviation below 7
    assert counts.max() < 75


def test_same_seed_gives_same_arrays():
    first, second = (load_polydigits("test", pairings=1, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.sources, second.sources)
    for name in MODALITIES:
        np.testing.assert_array_equal(first.images[name], second.images[name])
    np.testing.assert_array_equal(backgrounds(3), backgrounds(3))


def test_other_seed_gives_other_split_pairing_and_backgrounds(splits):
    first = splits["validation"]
    second = load_polydigits("validation", pairings=PAIRINGS, seed=1)
    assert set(first.sources.flat) != set(second.sources.flat)
    assert not np.array_equal(first.labels, second.labels)
    for a, b in zip(backgrounds(0), backgrounds(1), strict=True):
        assert not np.array_equal(a, b)


def test_fewer_pairings_are_a_prefix_of_more(splits):
    more = splits["test"]
    fewer = load_polydigits("test", pairings=1)
    n = len(fewer.labels)
    assert len(more.labels) == PAIRINGS * n
    np.testing.assert_array_equal(fewer.sources, more.sources[:n])
    for name in MODALITIES:
        np.testing.assert_array_equal(fewer.images[name], more.images[name][:n])


@pytest.mark.parametrize("seed", range(4))
def test_backgrounds_are_clearly_dark_or_clearly_bright(seed):
    canvases = backgrounds(seed)
    assert canvases.shape == (5, 192, 192, 3)
    assert canvases.dtype == np.uint8
    for canvas, dark in zip(canvases, DARK, strict=True):
        value = luminance(canvas)
        assert value.max() <= 0.35 if dark else value.min() >= 0.65
    channels = canvases / 255.0
    assert not np.any((channels > 0.4) & (channels < 0.6))


def test_backgrounds_differ_in_colour_and_are_textured():
    canvases = backgrounds(0, 96) / 255.0
    colours = canvases.mean(axis=(1, 2))  # [5, 3]
    for a in range(5):
        assert luminance(255.0 * canvases[a]).std() > 0.02
        for b in range(a):
            assert np.linalg.norm(colours[a] - colours[b]) > 0.25


@pytest.mark.parametrize("m", range(5))
def test_image_is_a_crop_of_its_background_inverted_on_the_digit(splits, m):
    windows = np.lib.stride_tricks.sliding_window_view(
        backgrounds(0)[m], (28, 28), axis=(0, 1)
    )  # [165, 165, 3, 28, 28]
    corners = set()
    for image in splits["train"].images[MODALITIES[m]][:5]:
        mask = digit_mask(image, m)
        crop = np.moveaxis(np.where(mask[..., np.newaxis], 255 - image, image), -1, 0)
        actual = np.argwhere(
            (windows[..., 0, :] == crop[..., 0, :]).all(axis=(-2, -1))
        )  # windows whose first row agrees
        actual = [(i, j) for i, j in actual if np.array_equal(windows[i, j], crop)]
        assert actual
        corners.add(actual[0])
    assert len(corners) == 5  # a fresh crop for each image


@pytest.mark.parametrize("m", range(5))
def test_every_image_has_digit_and_background_pixels(splits, m):
    for data in splits.values():
        images = data.images[MODALITIES[m]]
        value = luminance(images)
        assert not np.any((value > 0.35) & (value < 0.65))
        share = digit_mask(images, m).mean(axis=(1, 2))
        assert share.min() > 0.05
        assert share.max() < 0.5


@pytest.mark.parametrize("m", range(5))
def test_mask_is_the_digit_that_sources_names(splits, digits, m):
    data = splits["validation"]
    mask = digit_mask(data.images[MODALITIES[m]], m)
    # The digit's 8x8 pixels span the inner 8/10 of the image: sample at their centres.
    centres = np.floor((np.arange(8) + 1.5) * 2.8).astype(int)
    sampled = mask[:, centres][:, :, centres]
    ink = digits.images[data.sources[:, m]]
    assert np.mean(sampled[ink >= 12]) > 0.98
    assert np.mean(sampled[ink <= 3]) < 0.02


def test_same_source_has_the_same_mask_and_another_crop(splits):
    data = splits["test"]
    order = np.argsort(data.sources[:, 0], kind="stable")
    pairs = data.images["m0"][order].reshape(-1, PAIRINGS, 28, 28, 3)
    masks = digit_mask(pairs, 0)
    np.testing.assert_array_equal(masks[:, 0], masks[:, 1])
    same = (pairs[:, 0] == pairs[:, 1]).all(axis=(1, 2, 3))
    assert same.mean() < 0.01  # 165 * 165 corners: a repeat is rare


def test_splits_do_not_share_crops(splits):
    corner_pixels = [
        {image[0].tobytes() for image in splits[split].images["m0"]}
        for split in ("validation", "test")
    ]
    # Crops drawn alike would agree for every image; by chance 720 corners out of
    # 27,225 meet about 10 of 360.
    assert len(corner_pixels[0] & corner_pixels[1]) < 40


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"`split` must be one of .* Received: 'x'"):
        load_polydigits("x")


@pytest.mark.parametrize("pairings", [0, -1])
def test_fewer_than_one_pairing_is_refused(pairings):
    with pytest.raises(
        ValueError, match=f"`pairings` must be a whole number from 1.*{pairings}"
    ):
        load_polydigits("test", pairings=pairings)


@pytest.mark.parametrize("value", [1.5, "2", None, True])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="`pairings` must be a whole number"):
        load_polydigits("test", pairings=value)
    with pytest.raises(TypeError, match="`seed` must be a whole number"):
        load_polydigits("test", seed=value)
    with pytest.raises(TypeError, match="`size` must be a whole number"):
        backgrounds(0, value)


def test_negative_seed_and_small_canvas_are_refused():
    with pytest.raises(ValueError, match="`seed` must be a whole number from 0"):
        load_polydigits("test", seed=-1)
    with pytest.raises(ValueError, match="`size` must be a whole number from 28"):
        backgrounds(0, 27)


def test_numpy_integers_are_accepted():
    data = load_polydigits("validation", pairings=np.int32(1), seed=np.int64(0))
    assert len(data.labels) == len(np.unique(data.sources))
