"""Published layouts of PolyMNIST: image folders, or tensors."""

import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.made_digits import left_behind, rows_of
from tf_mopoe.data import DataError
from tf_mopoe.data.poly_mnist import Builder, PolyMnistConfig

NAMES = [f"m{m}" for m in range(5)]
COUNTS = {"train": 6, "test": 3}


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()


def save(path, values):
    """Writes a file that the substitute for PyTorch reads."""
    with path.open("wb") as file:
        np.save(file, values)


def made_images(count):
    random = np.random.default_rng(count)
    return random.integers(256, size=(5, count, 28, 28, 3), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    """An archive of image folders: file i of digit i % 4."""
    for split, count in COUNTS.items():
        for name, images in zip(NAMES, made_images(count), strict=True):
            folder = tmp_path / "PolyMNIST" / split / name
            folder.mkdir(parents=True)
            for index, pixels in enumerate(images):
                Image.fromarray(pixels).save(folder / f"{index}.{index % 4}.png")
    return tmp_path / "PolyMNIST"


@pytest.fixture
def tensors(tmp_path, monkeypatch):
    """An archive of tensors, and a substitute for PyTorch that reads them."""
    for split, count in COUNTS.items():
        folder = tmp_path / "PolyMNIST" / split
        folder.mkdir(parents=True)
        for name, images in zip(NAMES, made_images(count), strict=True):
            values = np.moveaxis(images, -1, 1) / np.float32(255.0)
            save(folder / f"{name}.pt", values)
        save(folder / "labels.pt", np.arange(count) % 4)

    def load(path, *, map_location, weights_only):
        assert weights_only  # else a file could run code
        values = np.load(path)
        return types.SimpleNamespace(numpy=lambda: values)

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    return tmp_path / "PolyMNIST"


def build(archive):
    builder = Builder(
        config=PolyMnistConfig(archive=archive), data_dir=archive.parent / "tfds"
    )
    builder.download_and_prepare()
    return builder


def assert_holds_the_made_images(builder):
    for split, count in COUNTS.items():
        rows = rows_of(builder, split)
        images = made_images(count)
        assert len(rows["label"]) == count
        for row, label in enumerate(rows["label"]):
            index = [np.array_equal(rows["m0"][row], x) for x in images[0]].index(True)
            assert label == index % 4
            for m, name in enumerate(NAMES):
                np.testing.assert_array_equal(rows[name][row], images[m, index])


def test_images_of_one_name_make_a_tuple_whatever_their_order_on_disk(folders):
    assert_holds_the_made_images(build(folders))


def test_tensors_give_the_same_tuples(tensors):
    assert_holds_the_made_images(build(tensors))


def test_tensors_of_pytorch_itself_are_read(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for split, count in COUNTS.items():
        folder = tmp_path / "PolyMNIST" / split
        folder.mkdir(parents=True)
        for name, images in zip(NAMES, made_images(count), strict=True):
            channels_first = np.ascontiguousarray(np.moveaxis(images, -1, 1))
            torch.save(torch.from_numpy(channels_first), folder / f"{name}.pt")
        torch.save(torch.arange(count) % 4, folder / "labels.pt")
    assert_holds_the_made_images(build(tmp_path / "PolyMNIST"))


def test_tensors_without_pytorch_say_what_to_install(tensors, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DataError, match="needs PyTorch.*pip install torch"):
        build(tensors)


def test_another_archive_in_its_place_is_another_data_set(folders):
    before = PolyMnistConfig(archive=folders).name
    assert PolyMnistConfig(archive=folders).name == before
    (folders / "train/m3/2.2.png").write_bytes(b"")
    assert PolyMnistConfig(archive=folders).name != before


def truncate(path):
    path.write_bytes(path.read_bytes()[:300])


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def rename(archive, name):
    for folder in NAMES:
        path = archive / "train" / folder / "2.2.png"
        path.rename(path.with_name(name))


def save_small(archive):
    Image.new("RGB", (28, 27)).save(archive / "train" / "m3" / "2.2.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: truncate(a / "train/m3/2.2.png"), r"m3/2\.2\.png is damaged"),
        (save_small, r"m3/2\.2\.png must be an image of 28 x 28.*\(27, 28, 3\)"),
        (lambda a: (a / "train/m3/2.2.png").unlink(), "6 in m0, 5 in m3; 2.2.png is"),
        (lambda a: rename(a, "2.10.png"), "digit from 0 to 9. Received: 2.10.png"),
        (lambda a: rename(a, "two.2.png"), "Received: two.2.png"),
        (lambda a: empty(a / "test/m1"), r"test/m1 holds no \.png files"),
        (lambda a: (a / "test").rename(a / "tests"), "test/m0 is not a folder"),
    ],
    ids=["truncated", "shape", "unpaired", "label", "name", "empty", "split"],
)
def test_damaged_folders_are_one_error_and_nothing_is_left(damage, message, folders):
    damage(folders)
    with pytest.raises(DataError, match=message):
        build(folders)
    assert not left_behind(folders.parent)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: truncate(f / "m3.pt"), r"m3\.pt can't be read: it is damaged"),
        (
            lambda f: save(f / "m3.pt", np.zeros([6, 3, 27, 28], np.uint8)),
            r"m3\.pt: images must be uint8 \('N', 28, 28, 3\).*\(6, 27, 28, 3\)",
        ),
        (
            lambda f: save(f / "m3.pt", np.zeros([5, 3, 28, 28], np.uint8)),
            "one label for each of the 5 images",
        ),
        (
            lambda f: save(f / "m3.pt", np.full([6, 3, 28, 28], 2.0)),
            r"m3\.pt: floating images must be in \[0, 1\]",
        ),
        (
            lambda f: save(f / "labels.pt", np.full(6, 10)),
            "labels must be whole numbers from 0 to 9. Received: 10",
        ),
        (lambda f: (f / "m3.pt").unlink(), r"m3\.pt does not exist"),
    ],
    ids=["truncated", "shape", "unpaired", "range", "label", "absent"],
)
def test_damaged_tensors_are_one_error_and_nothing_is_left(damage, message, tensors):
    damage(tensors / "train")
    with pytest.raises(DataError, match=message):
        build(tensors)
    assert not left_behind(tensors.parent)
