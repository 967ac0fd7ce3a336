"""Bimodal CelebA as a TFDS data set: faces, and their attributes as text."""

import concurrent.futures
import dataclasses
import io
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from tf_mopoe.data.bimodal_celeba import local_files
from tf_mopoe.data.bimodal_celeba.attributes import ATTRIBUTES, attribute_text
from tf_mopoe.data.bimodal_celeba.local_files import Face
from tf_mopoe.data.builder_configs import (
    ConfiguredBuilder,
    content_hash,
    existing,
    listing_hash,
)
from tf_mopoe.data.errors import UNREADABLE, DataError

IMAGE_SIZE = 64
CROP_SIZE = 148  # of 178 x 218, as in the published code
SPLITS = ("train", "validation", "test")

_WORKERS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(eq=False)
class BimodalCelebaConfig(tfds.core.BuilderConfig):
    """Source of CelebA. Without arguments TFDS downloads `celeb_a`.

    Attributes:
      name: Name of the data set's folder; by default a hash of the content of the
        lists, and of the names, sizes and times of the images.
      files: Folder with `img_align_celeba` (a folder or .zip), and with
        `list_attr_celeba` and `list_eval_partition` (.txt as published, or .csv).

    Raises:
      DataError: If the folder or something in it does not exist.
    """

    name: str = ""
    files: str | os.PathLike[str] | None = None

    def __post_init__(self):
        self.files = existing("files", self.files, folder=True)
        if self.files is not None:
            lists = content_hash(local_files.list_files(self.files))
            images = listing_hash(local_files.image_source(self.files))
            self.name = self.name or f"files-{lists}-{images}"
        self.name = self.name or "celeb_a"


class Builder(ConfiguredBuilder):
    """TFDS builder of `bimodal_celeba`; see README.md beside it."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [BimodalCelebaConfig()]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(IMAGE_SIZE, IMAGE_SIZE, 3), encoding_format="png"
                    ),
                    "text": tfds.features.Text(),
                    "attributes": tfds.features.Tensor(
                        shape=(len(ATTRIBUTES),), dtype=np.bool_
                    ),
                }
            ),
            homepage="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # TFDS's celeb_a has its own
        if self.builder_config.files is not None:
            faces = local_files.read(self.builder_config.files, SPLITS)
        else:
            faces = _from_tfds(self._data_dir_root)
        return {split: self._generate_examples(faces[split]) for split in SPLITS}

    def _generate_examples(self, faces) -> Iterator[tuple[str, dict[str, Any]]]:
        # Decoding, resizing and encoding release the interpreter lock.
        with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
            for part in _chunks(faces, 64 * _WORKERS):
                yield from pool.map(make_example, part)


def make_example(face: Face) -> tuple[str, dict[str, Any]]:
    """Key and features of a face: image cropped and resized, attributes as text.

    Raises:
      DataError: If the image is damaged or smaller than the crop.
    """
    key, image, attributes = face
    return key, {
        "image": io.BytesIO(_encoded(_cropped(image, key))),
        "text": attribute_text(attributes),
        "attributes": attributes,
    }


def _cropped(image: np.ndarray | bytes, key: str) -> Image.Image:
    try:
        picture = (
            Image.open(io.BytesIO(image))
            if isinstance(image, bytes)
            else Image.fromarray(image)
        )
        picture = picture.convert("RGB")
    except UNREADABLE as error:
        raise DataError(
            f"Image {key} is damaged or truncated ({error}). Download it again."
        ) from error
    width, height = picture.size
    if min(width, height) < CROP_SIZE:
        raise DataError(
            f"Image {key} must have at least {CROP_SIZE} x {CROP_SIZE} pixels; "
            f"CelebA's aligned images have 178 x 218. Received: {width} x {height}."
        )
    left, top = (width - CROP_SIZE) // 2, (height - CROP_SIZE) // 2
    crop = picture.crop((left, top, left + CROP_SIZE, top + CROP_SIZE))
    return crop.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _from_tfds(data_dir) -> dict[str, Iterator[Face]]:
    try:
        builder = tfds.builder("celeb_a", data_dir=data_dir)
        builder.download_and_prepare()
    except Exception as error:  # requests, TensorFlow and TFDS raise their own
        raise DataError(
            f"TFDS could not provide 'celeb_a' ({type(error).__name__}: {error}). Pass "
            f"`files`, {local_files.LAYOUT}."
        ) from error

    def read(split: str) -> Iterator[Face]:
        rows = tfds.as_numpy(builder.as_dataset(split=split))
        for index, row in enumerate(rows):
            flags = np.array([row["attributes"][name] for name in ATTRIBUTES])
            yield Face(f"{index:06d}", row["image"], flags)

    return {split: read(split) for split in SPLITS}


def _chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
