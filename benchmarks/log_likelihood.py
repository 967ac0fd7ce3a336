"""Rows a second of importance-sampled log-likelihoods, compared with MultiVae.

    python benchmarks/log_likelihood.py [--rows 1000] [--num-samples 1000]
        [--peer-python PATH] [--peer-rows 8] [--rounds 5]

The joint log p(X) of the PolyMNIST model (five modalities of 28 x 28 x 3, latent 512)
with K samples a row and the mixture as proposal. MultiVae 1.0.3 computes the same with
the same networks: `pip install multivae==1.0.3 torch torchvision`, here or in the
environment of `--peer-python`; without it the comparison is skipped. The two alternate
on a few rows, so that their ratio does not depend on the machine's speed; then this
library alone runs on all rows, for its speed and peak memory.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

MODALITIES, LATENT_DIM, IMAGE = 5, 512, (28, 28, 3)

#: Program that answers each line "rows samples" with seconds.
PEER = """
import sys, time, torch
library = torch.library.Library("torchvision", "DEF")  # torchvision needs them
for operator in ("nms", "qnms"):
    try:
        library.define(f"{operator}(Tensor a, Tensor b, float c) -> Tensor")
    except RuntimeError:
        pass  # exists already
from multivae.data.datasets.base import DatasetOutput
from multivae.models import MoPoE, MoPoEConfig
from multivae.models.base import BaseAEConfig
from multivae.models.nn.mmnist import DecoderConvMMNIST, EncoderConvMMNIST

names = [f"m{i}" for i in range(MODALITIES)]
network = BaseAEConfig(latent_dim=LATENT_DIM, style_dim=0)
model = MoPoE(
    MoPoEConfig(
        n_modalities=MODALITIES,
        input_dims={name: (3, 28, 28) for name in names},
        latent_dim=LATENT_DIM,
        decoders_dist={name: "laplace" for name in names},
        decoder_dist_params={name: {"scale": 0.75} for name in names},
    ),
    encoders={name: EncoderConvMMNIST(network) for name in names},
    decoders={name: DecoderConvMMNIST(network) for name in names},
).eval()
print("ready", flush=True)
for line in sys.stdin:
    rows, samples = map(int, line.split())
    x = DatasetOutput(data={name: torch.rand(rows, 3, 28, 28) for name in names})
    started = time.perf_counter()
    with torch.no_grad():
        model.compute_joint_nll(x, K=samples)
    print(time.perf_counter() - started, flush=True)
"""


class Peer:
    """MultiVae in a separate process."""

    def __init__(self, python: str):
        """Starts the process; `error` is the reason if it fails."""
        code = f"MODALITIES, LATENT_DIM = {MODALITIES}, {LATENT_DIM}\n{PEER}"
        self.process = subprocess.Popen(
            [python, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.error = ""
        for line in self.process.stdout:
            if line.strip() == "ready":
                return
        self.error = (self.process.stderr.read().strip().splitlines() or ["?"])[-1]

    def seconds(self, rows: int, samples: int) -> float:
        """Seconds of `compute_joint_nll`."""
        print(rows, samples, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self) -> None:
        """Ends the process."""
        self.process.communicate()


def make_model():
    """The published PolyMNIST model."""
    from tf_mopoe import Modality, MoPoEVAE

    return MoPoEVAE(
        [
            Modality(f"m{i}", IMAGE, likelihood="laplace", likelihood_scale=0.75)
            for i in range(MODALITIES)
        ],
        LATENT_DIM,
        beta=2.5,
        seed=0,
    )


def seconds(model, rows: int, samples: int) -> float:
    """Seconds of `log_likelihood` of random rows."""
    random = np.random.default_rng(0)
    batch = {
        name: random.random((rows, *IMAGE), dtype=np.float32)
        for name in model.modality_names
    }
    started = time.perf_counter()
    model.log_likelihood(batch, num_samples=samples, seed=0).numpy()
    return time.perf_counter() - started


def compare(model, peer: Peer, rows: int, samples: int, rounds: int) -> float:
    """Prints rows a second of both, and returns the median ratio of their speeds."""
    seconds(model, rows, samples), peer.seconds(rows, samples)  # warm up
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(model, rows, samples))
        theirs.append(peer.seconds(rows, samples))
    ratio = statistics.median(b / a for a, b in zip(ours, theirs))
    print(f"tf_mopoe  {rows / statistics.median(ours):6.2f} rows/s of K = {samples}")
    print(f"MultiVae  {rows / statistics.median(theirs):6.2f} rows/s")
    print(f"{ratio:.2f} times as fast (median of {rounds} alternating rounds)")
    return ratio


def main(arguments=None) -> None:
    """Compares with MultiVae, then times all rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-rows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)

    model = make_model()
    peer = Peer(options.peer_python)
    if peer.error:
        print(
            f"skipped: MultiVae does not run in {options.peer_python} ({peer.error}). "
            "pip install multivae==1.0.3 torch torchvision"
        )
    else:
        compare(model, peer, options.peer_rows, options.num_samples, options.rounds)
        peer.stop()
    taken = seconds(model, options.rows, options.num_samples)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{options.rows} rows, K = {options.num_samples}: {taken:.1f} s, "
        f"{options.rows / taken:.2f} rows/s, peak memory {memory:.2f} GiB"
    )


if __name__ == "__main__":
    main()
