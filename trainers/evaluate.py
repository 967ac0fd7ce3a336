"""`mopoe-evaluate`: measures a trained run on its test split, and draws it."""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from trainers.command_line import ArgumentParser
from trainers.errors import UsageError, run_command
from trainers.recipe import LabelledData
from trainers.run_folder import RunFolder, replacing, write_json

METRICS = ("conditional_coherence", "joint_coherence", "linear_probe", "figures")

SEED = 0
NUM_SAMPLES = 1000
NUM_TRAIN = 500


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        prog="mopoe-evaluate",
        description="Write RUN/evaluation.json and RUN/figures/*.png.",
    )
    parser.add_argument("run", metavar="RUN", help="folder that mopoe-train wrote")
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=METRICS,
        metavar="NAME",
        help=f"which of {', '.join(METRICS)}; default: all that the recipe has",
    )
    return parser


class Evaluation:
    """The metrics of one run, each a method that returns its entry of the report."""

    def __init__(self, run: RunFolder):
        """Loads the run's model and data, and its classifiers, trained if need be."""
        self.run = run
        self.recipe, self.config = run.load_config()
        self.model = run.load_model()
        self.test = self.recipe.load_data(self.config, "test")
        self._classifiers: dict[str, Any] = {}

    @functools.cached_property
    def train(self) -> LabelledData:
        """The training split, which not every metric needs."""
        return self.recipe.load_data(self.config, "train")

    def classifiers(self) -> dict[str, Any]:
        """One classifier for each modality, kept in RUN/classifiers."""
        import keras
        from tqdm import tqdm

        from tf_mopoe.metrics import train_classifier

        if self._classifiers:
            return self._classifiers
        folder = self.run.path / "classifiers"
        folder.mkdir(exist_ok=True)
        for name, images in tqdm(
            self.train.modalities.items(), "training classifiers", disable=None
        ):
            path = folder / f"{name}.keras"
            if path.exists():
                self._classifiers[name] = keras.saving.load_model(path)
                continue
            self._classifiers[name] = train_classifier(
                images,
                self.train.labels,
                num_classes=int(self.recipe.num_classes or 0),
                seed=self.config.seed,
                name=f"{name}_classifier",
            )
            with replacing(path) as temporary:
                self._classifiers[name].save(temporary)
        return self._classifiers

    def conditional_coherence(self) -> dict[str, Any]:
        """By subset and target, and averaged; both readings of a subset's posterior."""
        from tqdm import tqdm

        from tf_mopoe.metrics import (
            classifier_accuracy,
            conditional_coherence,
            mean_by_number_given,
        )

        classifiers = self.classifiers()
        images, labels = self.test
        report: dict[str, Any] = {
            "protocol": "accuracy of a classifier on modalities not given, decoded "
            "from one z a row drawn from the given subset's posterior; mean over "
            "subsets and targets; 'product': the subset's product of experts, "
            "'mixture': the mixture over all its subsets",
            "seed": SEED,
            "num_rows": len(labels),
            "samples_per_row": 1,
            "classifier_test_accuracy": {
                name: classifier_accuracy(classifiers[name], images[name], labels)
                for name in images
            },
        }
        for posterior in ("product", "mixture"):
            table = conditional_coherence(
                self.model,
                images,
                labels,
                classifiers,
                posterior=posterior,
                seed=SEED,
                progress=lambda batches: tqdm(batches, "coherence", disable=None),
            )
            report[posterior] = {
                "by_number_given": mean_by_number_given(table),
                "by_subset": table,
            }
        return report

    def joint_coherence(self) -> dict[str, Any]:
        """Share of prior draws in which all modalities show one class."""
        from tf_mopoe.metrics import joint_coherence

        return {
            "protocol": "share of draws from the prior N(0, I) in which the "
            "classifiers of all modalities agree",
            "seed": SEED,
            "num_samples": NUM_SAMPLES,
            "value": joint_coherence(
                self.model, self.classifiers(), num_samples=NUM_SAMPLES, seed=SEED
            ),
        }

    def linear_probe(self) -> dict[str, Any]:
        """Accuracy of a logistic regression on each subset's latent mean."""
        from tf_mopoe.metrics import linear_probe, mean_by_number_given

        accuracy = linear_probe(self.model, self.train, self.test, num_train=NUM_TRAIN)
        return {
            "protocol": "logistic regression on the mean of each subset's product of "
            "experts, fitted on training rows, scored on test rows; mean over subsets",
            "num_train": min(NUM_TRAIN, len(self.train.labels)),
            "num_rows": len(self.test.labels),
            "by_number_given": mean_by_number_given(accuracy),
            "by_subset": accuracy,
        }

    def figures(self) -> dict[str, Any]:
        """Reconstructions, imputations and samples as PNG files."""
        from trainers.figures import write_figures

        paths = write_figures(
            self.model, self.test.modalities, self.run.figures, seed=SEED
        )
        return {"seed": SEED, "files": [str(path) for path in paths]}


def evaluate(run_path: str, metrics: Sequence[str] | None = None) -> dict[str, Any]:
    """Evaluates a run and writes its evaluation.json.

    Metrics measured before of the same model stay in the report.

    Args:
      run_path: The run's folder.
      metrics: Names from `METRICS`; None: all that the recipe has.

    Returns:
      The content of evaluation.json.

    Raises:
      UsageError: If this is no run, or the recipe does not have one of `metrics`.
    """
    run = RunFolder(run_path)
    recipe, _ = run.load_config()  # answered before TensorFlow is imported
    possible = recipe.metrics or METRICS
    metrics = possible if metrics is None else metrics
    for name in metrics:
        if name not in possible:
            raise UsageError(
                f"--metrics: the recipe of {run_path} does not have {name!r}. "
                f"It has: {', '.join(possible)}."
            )

    import tf_mopoe

    evaluation = Evaluation(run)
    report: dict[str, Any] = _earlier_report(run)
    report |= {
        "model": evaluation.model.name,
        "tf_mopoe": tf_mopoe.__version__,
        "split": "test",
        "steps": int(evaluation.model.optimizer.iterations),
    }
    for name in METRICS:
        if name in metrics:
            measure: Callable[[], dict[str, Any]] = getattr(evaluation, name)
            started = time.monotonic()
            report[name] = measure()
            report[name]["seconds"] = round(time.monotonic() - started, 1)
    write_json(run.evaluation_file, report)
    return report


def _earlier_report(run: RunFolder) -> dict[str, Any]:
    """What was measured before of this same model."""
    try:
        report = json.loads(run.evaluation_file.read_text())
    except (OSError, ValueError):
        return {}
    same = run.evaluation_file.stat().st_mtime > run.model_file.stat().st_mtime
    return report if same and isinstance(report, dict) else {}


def summary(report: dict[str, Any]) -> str:
    """The report's main numbers as a few readable lines."""

    def line(title: str, by_number: dict[str, float]) -> str:
        numbers = "  ".join(f"{n}: {value:.3f}" for n, value in by_number.items())
        return f"{title:<46}{numbers}"

    lines = []
    if "conditional_coherence" in report:
        part = report["conditional_coherence"]
        accuracy = part["classifier_test_accuracy"].values()
        lines += [
            line(
                f"conditional coherence, {posterior}, by inputs",
                part[posterior]["by_number_given"],
            )
            for posterior in ("product", "mixture")
        ]
        lines.append(
            f"{'classifiers, test accuracy':<46}"
            f"{min(accuracy):.3f} to {max(accuracy):.3f}"
        )
    if "linear_probe" in report:
        lines.append(
            line("linear probe, by inputs", report["linear_probe"]["by_number_given"])
        )
    if "joint_coherence" in report:
        value = report["joint_coherence"]["value"]
        lines.append(f"{'joint coherence from the prior':<46}{value:.3f}")
    if "figures" in report:
        lines += [f"figure  {path}" for path in report["figures"]["files"]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options: argparse.Namespace = make_parser().parse_args(arguments)

    def command():
        print(summary(evaluate(options.run, options.metrics)))

    return run_command("mopoe-evaluate", command)


if __name__ == "__main__":
    sys.exit(main())
