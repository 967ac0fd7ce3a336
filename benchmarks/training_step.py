"""Times one PolyMNIST training step, and its fusion alone.

    python benchmarks/training_step.py [--rounds 15] [--batch-size 256] [--jit]

Shapes of the published experiment: five modalities of 28 x 28 x 3, latent of 512, batch
of 256 (Sutter et al., ICLR 2021). The fusion is everything between the experts and one
z a row: 31 products, the KL bound and the draw of a component, forward and backward.
The two alternate, so that their ratio does not depend on the machine's speed.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.distributions import DiagonalGaussian

MODALITIES, LATENT_DIM, IMAGE = 5, 512, (28, 28, 3)


def make_model() -> MoPoEVAE:
    """The published PolyMNIST model."""
    model = MoPoEVAE(
        [
            Modality(f"m{i}", IMAGE, likelihood="laplace", likelihood_scale=0.75)
            for i in range(MODALITIES)
        ],
        LATENT_DIM,
        beta=2.5,
        seed=0,
    )
    model.compile(keras.optimizers.Adam(5e-4))
    return model


def make_step(model: MoPoEVAE, batch_size: int, jit: bool):
    """A function without arguments that runs a training step on random images."""
    random = np.random.default_rng(0)
    batch = {
        name: tf.constant(random.random((batch_size, *IMAGE), dtype=np.float32))
        for name in model.modality_names
    }
    step = tf.function(model.train_step, jit_compile=jit, autograph=False)
    return lambda: step(batch)["loss"].numpy()


def make_fusion(model: MoPoEVAE, batch_size: int, jit: bool):
    """A function without arguments that runs the fusion, forward and backward."""
    shape = [batch_size, MODALITIES, LATENT_DIM]
    loc = tf.random.stateless_normal(shape, [0, 1])
    log_scale = 0.3 * tf.random.stateless_normal(shape, [0, 2])
    uniform = tf.fill([batch_size, 31], 1.0 / 31.0)

    @tf.function(jit_compile=jit, autograph=False)
    def fusion():
        with tf.GradientTape() as tape:
            tape.watch([loc, log_scale])
            components = model.subset_product_of_experts(
                DiagonalGaussian(loc, log_scale)
            )
            z, _ = model.mixture_of_experts(components, seed=tf.constant([0, 1]))
            bound = model.divergence(components, uniform)
            target = tf.reduce_sum(z) + tf.reduce_sum(bound)
        return tape.gradient(target, [loc, log_scale])

    return lambda: fusion()[0].numpy()


def milliseconds(function) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return 1000.0 * (time.perf_counter() - started)


def main() -> None:
    """Prints medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    options = parser.parse_args()
    model = make_model()
    print(f"parameters: {model.count_params():,}")
    step = make_step(model, options.batch_size, options.jit)
    fusion = make_fusion(model, options.batch_size, options.jit)
    for function in (step, fusion):
        function()  # traces
        function()
    times = [(milliseconds(step), milliseconds(fusion)) for _ in range(options.rounds)]
    step_ms, fusion_ms = (statistics.median(column) for column in zip(*times))
    ratio = statistics.median(part / whole for whole, part in times)
    print(f"training step  {step_ms:8.1f} ms  (median of {options.rounds})")
    print(f"fusion alone   {fusion_ms:8.1f} ms")
    print(f"fusion / step  {ratio:8.3f}")


if __name__ == "__main__":
    main()
