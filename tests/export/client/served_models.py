"""The models that the clients are tested with, the same in every process."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from export.publication.publish import publish, write_saved_model
from export.signatures.serving_model import serving_model
from export.signatures.signatures import make_signatures
from tests.tiny_models import tiny_modality, tiny_model
from tf_mopoe import MMVAE, Modality, MultimodalVAE

#: Importance samples of `log_likelihood`.
NUM_SAMPLES = 5
IMAGE = (6, 5, 3)


class Served(NamedTuple):
    """A model and how it is exported."""

    model: MultimodalVAE
    options: dict[str, Any]

    def signatures(self):
        """Name to signature, as the export has them."""
        return make_signatures(serving_model(self.model), **self.options)


def make_served_models() -> dict[str, Served]:
    """By name: reals with an image; classes and styles; files and texts."""
    number = {"num_samples": NUM_SAMPLES}
    files = {"image_bytes": ["photo"], "text_strings": ["caption", "word"]}
    views = [tiny_modality("image", IMAGE), tiny_modality("table", (4,))]
    classes = {"likelihood": "integer_categorical", "num_classes": 5}
    mixed = [
        tiny_modality("reals", (3,), style_dim=2, likelihood_scale="per_element"),
        tiny_modality("kind", (4,), likelihood="categorical"),
        _indices("classes", (2,), **classes),
    ]
    documents = [
        tiny_modality("photo", IMAGE),
        tiny_modality("caption", (4, 71), likelihood="categorical"),
        _indices("word", (3,), likelihood="integer_categorical", num_classes=71),
    ]
    return {
        "views": Served(tiny_model(views, name="views"), number),
        "mixed": Served(tiny_model(mixed, cls=MMVAE, name="mixed"), number),
        "documents": Served(
            tiny_model(documents, name="documents"), {**number, **files}
        ),
    }


def _indices(name, shape, **kwargs):
    return Modality(name, shape, **kwargs)


def write_served_model(served: Served, folder: pathlib.Path) -> None:
    """Writes a version without verification, which has tests of its own."""
    write_saved_model(served.model, served.signatures(), folder)


def publish_served_models(folder: pathlib.Path) -> None:
    """Publishes every model, as `mopoe-export` does."""
    for served in make_served_models().values():
        publish(served.model, folder, **served.options)


def example_batch(name: str, rows: int, seed: int = 0) -> dict[str, Any]:
    """Values of every modality of a model, as a client takes them."""
    random = np.random.default_rng(seed)
    if name == "views":
        return {
            "image": random.random((rows, *IMAGE), dtype=np.float32),
            "table": random.normal(size=(rows, 4)).astype(np.float32),
        }
    if name == "mixed":
        return {
            "reals": random.normal(size=(rows, 3)).astype(np.float32),
            "kind": np.eye(4, dtype=np.float32)[random.integers(0, 4, rows)],
            "classes": random.integers(0, 5, (rows, 2)).astype(np.int32),
        }
    return {
        "photo": [encoded_image(random) for _ in range(rows)],
        "caption": [f"no {row}" for row in range(rows)],
        "word": [("one", "Zwölf", "")[row % 3] for row in range(rows)],
    }


def encoded_image(random: np.random.Generator) -> bytes:
    """A PNG file of a random image of another size."""
    import io

    from PIL import Image

    pixels = random.integers(0, 256, (7, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
