"""Writers of small random files in the layouts that the builders read."""

import numpy as np
from PIL import Image

from tf_mopoe.data.bimodal_celeba.attributes import ATTRIBUTES


def write_digits(path, *, train, test, shape=(28, 28), seed=0):
    """Writes an npz file of random images with labels that cycle through 0 to 9."""
    random = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        images = random.integers(256, size=(count, *shape), dtype=np.uint8)
        arrays |= {f"x_{split}": images, f"y_{split}": np.arange(count) % 10}
    np.savez(path, **arrays)
    return arrays


def write_backgrounds(folder, *, size=(40, 33)):
    """Writes five images of one colour each; returns the colours, uint8 [5, 3]."""
    folder.mkdir()
    colours = np.arange(15, dtype=np.uint8).reshape(5, 3) * 10
    for m, colour in enumerate(colours):
        pixels = np.broadcast_to(colour, (*size, 3))
        Image.fromarray(pixels).save(folder / f"photo{m}.png")
    return colours


def write_faces(folder, partition, *, seed=0):
    """Writes files of CelebA with random images and attributes.

    Returns:
      Attributes bool `[N, 40]`; image i is `00000{i + 1}.png`.
    """
    (folder / "img_align_celeba").mkdir(parents=True)
    random = np.random.default_rng(seed)
    flags = random.random([len(partition), len(ATTRIBUTES)]) < 0.2
    attributes, parts = [str(len(partition)), " ".join(ATTRIBUTES)], []
    for index, (row, part) in enumerate(zip(flags, partition, strict=True)):
        name = f"{index + 1:06d}.png"
        pixels = random.integers(256, size=(218, 178, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
        attributes.append(" ".join([name, *("1" if flag else "-1" for flag in row)]))
        parts.append(f"{name} {part}")
    (folder / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return flags


def rows_of(builder, split):
    """All rows of a split, stacked by name."""
    rows = list(builder.as_dataset(split=split).as_numpy_iterator())
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def left_behind(folder):
    """Files below the folder of data sets, without TFDS's notes on configurations."""
    return [
        path
        for path in (folder / "tfds").rglob("*")
        if path.is_file() and ".config" not in path.parts
    ]
