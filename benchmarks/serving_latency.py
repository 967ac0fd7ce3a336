"""Times the served signatures through TensorFlow's Session, and what they add.

    python benchmarks/serving_latency.py [--run RUN] [--rounds 30] [--samples 100]
        [--signatures encode ...] [--overhead-only]

For each signature and batch size: p50 and p99 of a request's time, and rows a second of
one client that waits for each answer. The models: PolyMNIST's (five modalities of
28 x 28 x 3, latent of 512), and two tables of 10 columns, latent of 8; or RUN's.

The overhead is that of `serving_default` at batch 64 over the bare networks: the same
encoders, expert heads and decoders with the same weights, in the same Session, without
flags, checks, fusion and likelihoods. Both run in turn; the ratio is the median of the
pairs', so that it holds when the machine's speed drifts.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf

from export.publication.publish import write_saved_model
from export.signatures.contract import BATCH_SIZES, MAX_BATCH_SIZE, RECONSTRUCT
from export.signatures.loading import load_run
from export.signatures.serving_model import serving_model
from export.signatures.signatures import Signature, make_signatures
from export.verification.examples import make_inputs
from export.verification.session import ServingSession
from tf_mopoe import Modality, MoPoEVAE

BARE = "bare_networks"
#: Requests that are made before any is timed.
WARM_UP = 3


def polymnist() -> MoPoEVAE:
    """The published PolyMNIST model, untrained."""
    likelihood = {"likelihood": "laplace", "likelihood_scale": 0.75}
    modalities = [Modality(f"m{i}", (28, 28, 3), **likelihood) for i in range(5)]
    return MoPoEVAE(modalities, 512, beta=2.5, seed=0, name="polymnist")


def tables() -> MoPoEVAE:
    """Two small tables, of which networks are next to nothing."""
    modalities = [Modality("a", (10,)), Modality("b", (10,))]
    return MoPoEVAE(modalities, 8, seed=0, name="tables")


def bare_networks(model) -> Signature:
    """Encoders, heads and decoders alone, joined by a mean."""
    served = make_signatures(model)[RECONSTRUCT].inputs
    inputs = {name: served[name] for name in model.modality_names}

    def run(flat):
        locs, scales, styles = [], [], {}
        for name, encoder, expert in zip(
            model.modality_names,
            model.networks.encoders.values(),
            model.networks.experts.values(),
        ):
            features = encoder(flat[name], training=False)
            q = expert(features)
            locs.append(q.loc)
            scales.append(q.log_scale)
            if name in model.networks.style_experts:
                styles[name] = model.networks.style_experts[name](features).loc
        # The scales must be computed, and must not count.
        z = tf.add_n(locs) / len(locs) + 1e-3 * tf.add_n(scales)
        parts = {name: [z] for name in model.modality_names}
        for name, style in styles.items():
            parts[name].append(style)
        return {
            name: decoder(tf.concat(parts[name], axis=-1), training=False)
            for name, decoder in zip(
                model.modality_names, model.networks.decoders.values()
            )
        }

    return Signature(run, inputs)


def load_session(model, signatures) -> ServingSession:
    """The signatures in a Session."""
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(model, signatures, pathlib.Path(folder))
        return ServingSession(folder)


def requests(model, signatures, rows: int) -> dict[str, np.ndarray]:
    """One request's inputs, of any signature; everything is present."""
    present = np.ones([rows, len(model.modalities)], bool)
    return make_inputs(model, signatures, present, np.random.default_rng(0))


def runner(session: ServingSession, name: str, inputs):
    """One request, as a function of nothing."""
    signature = session.signatures[name]
    feed = {key: inputs[key] for key in signature.inputs}
    return lambda: session.run(signature, feed)


def milliseconds(function) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return 1000.0 * (time.perf_counter() - started)


def print_latencies(
    session: ServingSession, name: str, model, signatures, rounds
) -> None:
    """p50, p99 and rows a second by batch size."""
    for rows in BATCH_SIZES:
        function = runner(session, name, requests(model, signatures, rows))
        for _ in range(WARM_UP):
            function()
        times = [milliseconds(function) for _ in range(rounds)]
        p50, p99 = np.percentile(times, [50, 99])
        rate = 1000.0 * rows * rounds / sum(times)
        print(f"{name:16} {rows:5} {p50:10.2f} {p99:10.2f} {rate:10.0f}", flush=True)


def print_overhead(session: ServingSession, model, signatures, rounds: int) -> None:
    """The median ratio of `serving_default` to the bare networks."""
    inputs = requests(model, signatures, MAX_BATCH_SIZE)
    served, bare = (runner(session, name, inputs) for name in (RECONSTRUCT, BARE))
    for _ in range(WARM_UP):
        served()
        bare()
    pairs = [(milliseconds(served), milliseconds(bare)) for _ in range(rounds)]
    times = [statistics.median(column) for column in zip(*pairs)]
    ratio = statistics.median(whole / part for whole, part in pairs)
    print(
        f"{RECONSTRUCT} {times[0]:.2f} ms, bare networks {times[1]:.2f} ms at batch "
        f"{MAX_BATCH_SIZE}; ratio {ratio:.3f}",
        flush=True,
    )


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="a run folder, whose model is timed")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--samples", type=int, default=100, help="of log_likelihood")
    parser.add_argument("--signatures", nargs="+", help="by default all")
    parser.add_argument("--overhead-only", action="store_true")
    options = parser.parse_args()
    models = [load_run(options.run)] if options.run else [tables(), polymnist()]
    for model in map(serving_model, models):
        signatures = make_signatures(model, num_samples=options.samples)
        chosen = options.signatures or list(signatures)
        served = {RECONSTRUCT, *([] if options.overhead_only else chosen)}
        signatures = {name: signatures[name] for name in signatures if name in served}
        session = load_session(model, {**signatures, BARE: bare_networks(model)})
        print(f"{model.name}: {model.count_params():,} parameters")
        print_overhead(session, model, signatures, options.rounds)
        if options.overhead_only:
            continue
        print(f"{'signature':16} {'batch':>5} {'p50, ms':>10} {'p99, ms':>10} rows/s")
        for name in chosen:
            print_latencies(session, name, model, signatures, options.rounds)


if __name__ == "__main__":
    main()
