"""A complete example on real digits: train, evaluate, export, query the export.

Runs the commands that a user would type, and skips what exists already.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np

RUN = pathlib.Path("runs", "demo")
SERVING = pathlib.Path("serving")
#: Metrics that take seconds; `mopoe-evaluate RUN` without options measures all.
METRICS = (
    "conditional_coherence",
    "joint_coherence",
    "linear_probe",
    "sample_quality",
    "precision_share",
    "figures",
)
MODULES = {
    "mopoe-train": "trainers.train",
    "mopoe-evaluate": "trainers.evaluate",
    "mopoe-export": "export.command",
}


def run(command: str, *arguments: object) -> None:
    """Runs one of the project's commands, and prints it as a user would type it."""
    words = [str(argument) for argument in arguments]
    print("\n$", command, *words, flush=True)
    finished = subprocess.run([sys.executable, "-u", "-m", MODULES[command], *words])
    if finished.returncode != 0:
        sys.exit(finished.returncode)


def newest_version() -> pathlib.Path | None:
    """Returns the newest export, unless the model is newer."""
    versions = [p for p in SERVING.glob("polydigits/*") if p.name.isdecimal()]
    newest = max(versions, key=lambda path: int(path.name), default=None)
    if newest and newest.stat().st_mtime > (RUN / "model.keras").stat().st_mtime:
        return newest
    return None


def query(version: pathlib.Path) -> None:
    """Sends one request with a single modality, and classifies the answer."""
    import keras
    import tensorflow as tf

    from tf_mopoe.data import load_polydigits

    print(f"\nOne request to {version}: an image of m0, nothing else", flush=True)
    digits = load_polydigits("test", pairings=1)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    request = {}
    for name, images in digits.images.items():
        image = images[:1].astype(np.float32) / 255.0
        request[name] = tf.constant(image if name == "m0" else np.zeros_like(image))
        request[f"has_{name}"] = tf.constant([name == "m0"])
    answer = served(**request)
    print(f"the image shows a {digits.labels[0]}; the answer, as classified:")
    for name in digits.images:
        classifier = keras.saving.load_model(RUN / "classifiers" / f"{name}.keras")
        read = int(np.argmax(classifier(answer[name], training=False)))
        print(f"  {name}: {tuple(answer[name].shape)}, a {read}")


def main() -> None:
    """Runs all steps, and prints where the results are."""
    run("mopoe-train", "polydigits", "--out", RUN)
    evaluation = RUN / "evaluation.json"
    model = RUN / "model.keras"
    if evaluation.exists() and evaluation.stat().st_mtime > model.stat().st_mtime:
        print(f"\n{evaluation} exists already.")
    else:
        run("mopoe-evaluate", RUN, "--metrics", *METRICS)
    if version := newest_version():
        print(f"\n{version} exists already.")
    else:
        run("mopoe-export", RUN, SERVING)
        version = newest_version()
    query(version)
    report = json.loads(evaluation.read_text())
    coherence = report["conditional_coherence"]["product"]["by_number_given"]
    numbers = ", ".join(f"{value:.0%} from {n}" for n, value in coherence.items())
    print(f"\nImputed digits that show the right class: {numbers} given")
    print("Look at:")
    for path in report["figures"]["files"]:
        print(f"  {RUN / path}")
    print(f"Read:\n  {RUN / 'report.html'}")
    print(f"Serve:\n  {version}")


if __name__ == "__main__":
    main()
