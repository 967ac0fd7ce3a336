"""Trains a tiny model on two replicas, saves it and publishes it; run as a script.

python mirrored_export.py FOLDER
"""

import pathlib
import sys

import tensorflow as tf

from export.errors import ExportError
from export.publication.publish import publish
from tests.tiny_models import tiny_batch, tiny_model


def main(folder: pathlib.Path) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = tiny_model("ab", options={"a": {"style_dim": 2}})
        model.compile(optimizer="adam")
        try:
            publish(model, folder / "inside")
        except ExportError as error:
            print(error)
    batches = tf.data.Dataset.from_tensors(tiny_batch("ab", rows=8)).repeat(3)
    model.fit(batches, epochs=1, verbose=0)
    model.save(folder / "model.keras")
    print(publish(model, folder / "serving", num_samples=3))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
