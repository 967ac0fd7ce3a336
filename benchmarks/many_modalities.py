"""Time and memory of a training step by number of modalities.

    python benchmarks/many_modalities.py [--rounds 15]

Tiny dense networks on eight values a modality, a batch of 64 and a latent of 32 make
the fusion most of the step: all 2^M - 1 subsets, up to M = 10, compared with
`SubsetSampler(16)`. Each case runs in a separate process, for its peak memory; the two
of one M alternate, so that both get the same speed of the machine.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

EXACT = (2, 4, 6, 8, 10)
SAMPLED = (2, 4, 6, 8, 10, 15, 20)
BATCH, LATENT_DIM, SIZE, HIDDEN, SUBSETS = 64, 32, 8, (16,), 16


def peak_mebibytes() -> float:
    """Peak memory of this process (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def worker(count: int, kind: str) -> None:
    """Runs a step for each line of input; the last line printed is the peak memory.

    Args:
      count: Number of modalities M.
      kind: Kind of subsets, "exact" or "sampled".
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from tf_mopoe import Modality, MoPoEVAE, nets
    from tf_mopoe.subsets import SubsetSampler

    imported = peak_mebibytes()
    modalities = [
        Modality(
            f"m{index}",
            (SIZE,),
            encoder=nets.dense_encoder((SIZE,), hidden=HIDDEN),
            decoder=nets.dense_decoder((SIZE,), LATENT_DIM, hidden=HIDDEN),
        )
        for index in range(count)
    ]
    subsets = "nonempty" if kind == "exact" else SubsetSampler(SUBSETS)
    model = MoPoEVAE(modalities, LATENT_DIM, subsets=subsets, seed=0)
    model.compile(keras.optimizers.Adam(1e-3))
    random = np.random.default_rng(0)
    batch = {
        name: tf.constant(random.normal(size=(BATCH, SIZE)).astype(np.float32))
        for name in model.modality_names
    }
    step = tf.function(model.train_step, autograph=False)
    for _ in range(3):  # traces, then warms up
        step(batch)["loss"].numpy()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        step(batch)["loss"].numpy()
        print(1000.0 * (time.perf_counter() - started), flush=True)
    print(peak_mebibytes() - imported, flush=True)


def start(count: int, kind: str) -> subprocess.Popen:
    """Starts a process that runs `worker`."""
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", str(count), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
    )


def read(process: subprocess.Popen) -> str:
    """Reads one line from a worker."""
    line = process.stdout.readline()
    if not line:
        sys.exit(f"A worker ended early: {process.args}")
    return line.strip()


def measure(count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds and peak MiB of each kind measured for M modalities."""
    kinds = [
        kind
        for kind, counts in (("exact", EXACT), ("sampled", SAMPLED))
        if count in counts
    ]
    processes = {kind: start(count, kind) for kind in kinds}
    for process in processes.values():
        read(process)
    times = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, process in processes.items():
            process.stdin.write("step\n")
            process.stdin.flush()
            times[kind].append(float(read(process)))
    results = {}
    for kind, process in processes.items():
        process.stdin.close()
        results[kind] = statistics.median(times[kind]), float(read(process))
        process.wait()
    return results


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(int(options.worker[0]), options.worker[1])
    print(f"one training step, batch {BATCH}, latent {LATENT_DIM}; median of")
    print(f"{options.rounds} alternating rounds; peak memory above the imports'")
    print(f"{'M':>3}{'subsets':>9}{'exact':>21}{f'SubsetSampler({SUBSETS})':>27}")
    for count in sorted({*EXACT, *SAMPLED}):
        results = measure(count, options.rounds)
        cells = [
            f"{results[kind][0]:9.1f} ms {results[kind][1]:5.0f} MiB"
            if kind in results
            else f"{'-':>20} "
            for kind in ("exact", "sampled")
        ]
        print(f"{count:3}{2**count - 1:9}{cells[0]}{cells[1]:>27}", flush=True)
    return None


if __name__ == "__main__":
    main()
