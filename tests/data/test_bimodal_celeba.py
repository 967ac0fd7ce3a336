"""Bimodal CelebA: crops, attributes as text, sources, damaged files."""

import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tests.data.made_digits import left_behind, rows_of, write_faces
from tf_mopoe.data import DataError
from tf_mopoe.data.bimodal_celeba import BimodalCelebaConfig, Builder
from tf_mopoe.data.bimodal_celeba.attributes import ATTRIBUTES, attribute_text

#: Partition of images 1 to 9.
PARTITION = [0, 0, 0, 0, 1, 1, 2, 2, 2]

pytestmark = pytest.mark.integration  # builds data sets of TFDS


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()


def face(index):
    """A grey face with a white square that is all but the last row of the crop."""
    pixels = np.full([218, 178, 3], 10 * index, np.uint8)
    pixels[35:182, 15:163] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def files(tmp_path):
    write_faces(tmp_path / "celeba", PARTITION)
    for index in range(9):
        face(index).save(tmp_path / f"celeba/img_align_celeba/{index + 1:06d}.png")
    return tmp_path / "celeba"


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Attributes of the faces, bool [9, 40]."""
    return write_faces(tmp_path_factory.mktemp("faces") / "celeba", PARTITION)


def build(folder):
    builder = Builder(
        config=BimodalCelebaConfig(files=folder), data_dir=folder.parent / "tfds"
    )
    builder.download_and_prepare()
    return builder


def by_attributes(rows, flags):
    """Index of the face of each row."""
    return [(flags == row).all(axis=1).argmax() for row in rows["attributes"]]


def test_splits_text_and_attributes_follow_the_lists(files, flags):
    builder = build(files)
    for number, split in enumerate(("train", "validation", "test")):
        rows = rows_of(builder, split)
        result = by_attributes(rows, flags)
        assert sorted(result) == list(np.flatnonzero(np.equal(PARTITION, number)))
        for row, index in enumerate(result):
            names = [n for n, flag in zip(ATTRIBUTES, flags[index]) if flag]
            text = rows["text"][row].decode()
            assert len(text) == 256
            expected = ", ".join(names).lower().replace("_", " ")
            assert text.rstrip() == expected[:256]


def test_images_are_the_resized_centre(files, flags):
    rows = rows_of(build(files), "train")
    for image, index in zip(rows["image"], by_attributes(rows, flags), strict=True):
        assert (image[:60] > 250).all()  # the square, up to ringing
        # The last of 148 rows of the crop is the background, 2.3 rows to a pixel.
        grey = 255 * (1 - 1 / 2.3125) + 10 * index / 2.3125
        np.testing.assert_allclose(image[-1], grey, atol=35)


def test_zip_and_csv_give_the_same_as_folder_and_txt(files, tmp_path):
    expected = rows_of(build(files), "train")
    other = tmp_path / "other" / "celeba"
    other.mkdir(parents=True)
    with zipfile.ZipFile(other / "img_align_celeba.zip", "w") as archive:
        for path in (files / "img_align_celeba").iterdir():
            archive.write(path, f"img_align_celeba/{path.name}")
    lines = (files / "list_attr_celeba.txt").read_text().splitlines()[1:]
    lines[0] = "image_id " + lines[0]
    table = "\n".join(line.replace(" ", ",") for line in lines)
    (other / "list_attr_celeba.csv").write_text(table)
    lines = (files / "list_eval_partition.txt").read_text().splitlines()
    table = "\n".join(line.replace(" ", ",") for line in ["image_id partition", *lines])
    (other / "list_eval_partition.csv").write_text(table)
    actual = rows_of(build(other), "train")
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values)


def test_text_of_all_attributes_is_cut_and_of_none_is_blank():
    assert len(attribute_text([True] * 40)) == 256
    assert attribute_text([False] * 40) == " " * 256
    assert attribute_text([True] * 2 + [False] * 38).rstrip() == (
        "5 o clock shadow, arched eyebrows"
    )


def edit(files, name, change):
    path = files / name
    path.write_text(change(path.read_text()))


def truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def bad_zip(files):
    folder = files / "img_align_celeba"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    (files / "img_align_celeba.zip").write_bytes(b"PK\3\4 cut short")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: truncate(f / "img_align_celeba/000002.png"), "000002.png is damage"),
        (
            lambda f: Image.new("RGB", (178, 100)).save(
                f / "img_align_celeba/000002.png"
            ),
            "000002.png must have at least 148 x 148.*178 x 100",
        ),
        (
            lambda f: (f / "img_align_celeba/000002.png").unlink(),
            "1 are missing, among them 000002.png",
        ),
        (bad_zip, "img_align_celeba.zip is damaged or truncated"),
        (lambda f: (f / "list_attr_celeba.txt").unlink(), "has no list_attr_celeba"),
        (
            lambda f: edit(f, "list_attr_celeba.txt", lambda text: text[:-9]),
            "must have 41 columns in every row.*row of 000009.png",
        ),
        (
            lambda f: edit(f, "list_attr_celeba.txt", lambda t: t.replace("Bald", "B")),
            "must name CelebA's 40 attributes",
        ),
        (
            lambda f: edit(
                f, "list_eval_partition.txt", lambda t: t[: t[:-1].rindex("\n")]
            ),
            "9 and 8; 000009.png is only in one",
        ),
        (
            lambda f: edit(f, "list_eval_partition.txt", lambda t: t[:-2] + "3"),
            "partitions must be 0, 1 or 2. Received: 000009.png 3",
        ),
        (lambda f: edit(f, "list_eval_partition.txt", lambda t: ""), "no images"),
        (
            lambda f: (f / "list_attr_celeba.txt").write_bytes(b"20\n\xff\xfe"),
            "list_attr_celeba.txt is damaged",
        ),
    ],
)
def test_damaged_files_are_one_error_and_nothing_is_left(damage, message, files):
    damage(files)
    with pytest.raises(DataError, match=message):
        build(files)
    assert not left_behind(files.parent)


def test_a_damaged_image_in_a_zip_is_one_error(files):
    images = files / "img_align_celeba"
    with zipfile.ZipFile(files / "img_align_celeba.zip", "w") as archive:
        for path in images.iterdir():
            archive.write(path)
            path.unlink()
    images.rmdir()
    path = files / "img_align_celeba.zip"
    content = bytearray(path.read_bytes())
    content[200:230] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"\.png in .*zip is damaged"):
        build(files)
    assert not left_behind(files.parent)


def test_without_files_the_faces_are_those_of_tfds(flags, tmp_path, monkeypatch):
    class Source:
        def download_and_prepare(self):
            pass

        def as_dataset(self, split):
            return [
                {
                    "image": np.asarray(face(index)),
                    "attributes": dict(zip(ATTRIBUTES, row)),
                }
                for index, row in enumerate(flags)
                if PARTITION[index] == ("train", "validation", "test").index(split)
            ]

    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Source())
    monkeypatch.setattr(tfds, "as_numpy", lambda rows: rows)
    builder = Builder(data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    assert sorted(by_attributes(rows_of(builder, "test"), flags)) == [6, 7, 8]


def test_no_download_is_one_error_that_names_the_files_to_give(tmp_path, monkeypatch):
    def refuse(name, data_dir):
        raise ConnectionError("quota exceeded")

    monkeypatch.setattr(tfds, "builder", refuse)
    with pytest.raises(DataError, match="quota exceeded.*list_eval_partition.txt"):
        Builder(data_dir=tmp_path / "tfds").download_and_prepare()
    assert not left_behind(tmp_path)
