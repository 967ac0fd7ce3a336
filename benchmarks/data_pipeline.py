"""Times building and reading PolyMNIST, and training steps fed from it.

    python benchmarks/data_pipeline.py [--rounds 7] [--rows 60000]

`mnist.npz` and the five photographs in `backgrounds` are read from the folder
TF_MOPOE_DATA; without it, random images of MNIST's size and the painted backgrounds are
used. 60,000 + 10,000 tuples of five are built in a separate process, whose peak memory
is printed. Then a PolyMNIST training step (batch of 256) is timed on one batch that is
in memory already, on batches of the data in memory, and on batches of the data decoded
from disk. The three alternate, so that their ratios do not depend on the machine's
speed.
"""

import argparse
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.data import num_rows, poly_mnist, shuffled_batches
from trainers.recipes.tfds_data import in_memory, read

BATCH, STEPS = 256, 4  # steps of a timing
SHAPE = (28, 28, 3)


def make_config(folder: pathlib.Path, rows: int) -> poly_mnist.PolyMnistConfig:
    """Digits and backgrounds of TF_MOPOE_DATA, or random ones written to `folder`."""
    data = pathlib.Path(os.environ.get("TF_MOPOE_DATA", "."))
    digits, photos = data / "mnist.npz", data / "backgrounds"
    if rows == 60_000 and digits.is_file() and photos.is_dir():
        print(f"digits and photographs of {data}")
        return poly_mnist.PolyMnistConfig(digits=digits, backgrounds=photos)
    print("random digits, painted backgrounds")
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", rows), ("test", rows // 6)):
        coarse = random.integers(256, size=(count, 7, 7), dtype=np.uint8)
        arrays[f"x_{split}"] = coarse.repeat(4, axis=1).repeat(4, axis=2)
        arrays[f"y_{split}"] = random.integers(10, size=count)
    path = folder / "mnist.npz"
    if not path.exists():
        np.savez(path, **arrays)
    return poly_mnist.PolyMnistConfig(digits=path)


def build(folder: pathlib.Path, rows: int) -> None:
    """Builds the data set and prints time, memory and size; the separate process."""
    started = time.perf_counter()
    builder = poly_mnist.Builder(config=make_config(folder, rows), data_dir=folder)
    builder.download_and_prepare()
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    tuples = sum(part.num_examples for part in builder.info.splits.values())
    raw = tuples * 5 * np.prod(SHAPE) / 2**20
    print(f"build          {seconds:8.1f} s   {tuples:,} tuples of five")
    print(f"peak memory    {memory:8.2f} GiB")
    print(
        f"on disk        {builder.info.dataset_size / 2**20:8.0f} MiB of {raw:.0f} raw"
    )


def make_model() -> MoPoEVAE:
    """The published PolyMNIST model."""
    model = MoPoEVAE(
        [
            Modality(f"m{i}", SHAPE, likelihood="laplace", likelihood_scale=0.75)
            for i in range(5)
        ],
        512,
        beta=2.5,
        seed=0,
    )
    model.compile(keras.optimizers.Adam(5e-4))
    return model


def rows_per_second(rows) -> float:
    """Rows a second of shuffled batches alone, without the first batch."""
    count = num_rows(rows) // BATCH
    iterator = iter(shuffled_batches(rows, BATCH, seed=0))
    next(iterator)
    started = time.perf_counter()
    for _ in range(count - 1):
        next(iterator)
    return BATCH * (count - 1) / (time.perf_counter() - started)


def main() -> None:
    """Prints times, sizes and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=60_000, help="training rows")
    parser.add_argument("--build", metavar="FOLDER", help="only build in that folder")
    options = parser.parse_args()
    tfds.disable_progress_bar()
    if options.build:
        build(pathlib.Path(options.build), options.rows)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = [sys.executable, __file__, "--build", name]
        subprocess.run([*command, "--rows", str(options.rows)], check=True)
        config = make_config(folder, options.rows)
        builder = poly_mnist.Builder(config=config, data_dir=folder)
        names = [f"m{m}" for m in range(5)]
        disk = read(builder, "train", lambda row: {name: row[name] for name in names})
        started = time.perf_counter()
        memory = in_memory(disk)
        print(f"into memory    {time.perf_counter() - started:8.1f} s")
        print(f"rows a second  {rows_per_second(memory):8.0f} from memory")
        print(f"               {rows_per_second(disk):8.0f} from disk")
        compare(memory, disk, options.rounds)


def compare(memory, disk, rounds: int) -> None:
    """Times steps on one batch, from memory and from disk, alternating."""
    model = make_model()
    step = tf.function(model.train_step, autograph=False)
    iterators = {
        "from memory": iter(shuffled_batches(memory, BATCH, seed=0)),
        "from disk": iter(shuffled_batches(disk, BATCH, seed=0)),
    }
    batch = next(iterators["from memory"])
    sources = {"one batch": lambda: batch}
    sources |= {name: lambda it=it: next(it) for name, it in iterators.items()}
    step(batch)
    times: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            step(source())["loss"].numpy()  # lets the pipelines fill their buffers
            started = time.perf_counter()
            for _ in range(STEPS):
                loss = step(source())["loss"]
            loss.numpy()
            times[name].append((time.perf_counter() - started) / STEPS)
    base = times["one batch"]
    for name, seconds in times.items():
        median = 1000 * statistics.median(seconds)
        ratio = statistics.median(x / y for x, y in zip(seconds, base))
        print(f"step, {name:<12}{median:6.0f} ms  {ratio:.3f} of one batch's")
    consumed = BATCH / statistics.median(base)
    print(f"a step consumes {consumed:7.0f} rows a second")


if __name__ == "__main__":
    main()
