"""Breaks the mathematics in known places, and checks that tests fail for each.

    python tests/mutations.py [NAME ...]

Each mutation replaces one piece of source text in a copy of the repository and runs the
few tests that should catch it. These tests must pass in the unchanged copy first. The
exit code is 1 if a mutation survives, if its text does not occur exactly once, or if
its tests could not be run.

To add a mutation, add an entry to `MUTATIONS`. `source` must occur once in `file`,
indentation included. `tests` are arguments of pytest, files or ids, that take seconds.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
IGNORED = (".*", "__pycache__", "runs", "serving", "build", "dist", "*.egg-info")
PASSED, FAILED = 0, 1  # exit codes of pytest


class Mutation(NamedTuple):
    """One fault in one file, and the tests that should notice it."""

    name: str
    file: str
    source: str
    replacement: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "coefficient of the Gaussian KL",
        "tf_mopoe/distributions/gaussians.py",
        "return 0.5 * tf.reduce_sum(\n        tf.exp(2.0 * log_scale)",
        "return 0.4 * tf.reduce_sum(\n        tf.exp(2.0 * log_scale)",
        ("tests/distributions/test_kl_upper_bound.py",),
    ),
    Mutation(
        "weight of the KL in the ELBO",
        "tf_mopoe/objectives/elbo.py",
        "return beta * divergence - weighted_sum(log_likelihoods, weights)",
        "return divergence - weighted_sum(log_likelihoods, weights)",
        ("tests/models/test_styles.py::test_loss_is_its_formula_with_styles",),
    ),
    Mutation(
        "precision of an expert in a product",
        "tf_mopoe/distributions/gaussians.py",
        "log_precision = -2.0 * log_scale",
        "log_precision = -1.0 * log_scale",
        ("tests/distributions/test_product_of_gaussians.py",),
    ),
    Mutation(
        "subsets with the prior as an expert",
        "tf_mopoe/distributions/gaussians.py",
        "return np.all(mask, axis=1) & several",
        "return np.any(mask, axis=1) & several",
        ("tests/distributions/test_mixture.py",),
    ),
    Mutation(
        "mixture weights of rows with missing modalities, in the loss",
        "tf_mopoe/models/bounds.py",
        "available, tf.reduce_sum(available, axis=-1, keepdims=True)",
        "available, tf.cast(len(mask), available.dtype)",
        (
            "tests/models/test_multimodal_vae_missing.py"
            "::test_bound_is_the_mean_over_subsets_that_can_be_formed",
        ),
    ),
    Mutation(
        "mixture weights of rows with missing modalities, in the distribution",
        "tf_mopoe/distributions/mixture.py",
        "return tf.math.divide_no_nan(\n"
        "            available, tf.reduce_sum(available, axis=-1, keepdims=True)\n"
        "        )",
        "return available / self._num_components",
        ("tests/distributions/test_missing_modalities.py",),
    ),
    Mutation(
        "which subsets are available",
        "tf_mopoe/subsets.py",
        "return lacking < 0.5",
        "return lacking < 1.5",
        ("tests/test_subsets.py",),
    ),
    Mutation(
        "shift of the stratified components",
        "tf_mopoe/distributions/components.py",
        "nth = (rank * counts + shift) // size",
        "nth = (rank * counts) // size",
        ("tests/distributions/test_stratified_sample.py",),
    ),
    Mutation(
        "weights of sampled subsets",
        "tf_mopoe/distributions/subset_draws.py",
        "count * num_others)",
        "count * sampler.num_subsets)",
        ("tests/distributions/test_subset_draws.py",),
    ),
    Mutation(
        "variance of the mixture, without that between components",
        "tf_mopoe/distributions/mixture.py",
        "spread = tf.exp(2.0 * log_scale) + tf.math.squared_difference(loc, mean)",
        "spread = tf.exp(2.0 * log_scale) + 0.0 * mean",
        ("tests/distributions/test_mixture.py",),
    ),
    Mutation(
        "width of mmJSD's dynamic prior",
        "tf_mopoe/models/mmjsd.py",
        "product.log_scale + 0.5 * tf.math.log(terms)",
        "product.log_scale + tf.math.log(terms)",
        ("tests/models/test_family.py::test_jensen_shannon_form_is_its_formula",),
    ),
    Mutation(
        "logit of the zero-inflated negative binomial",
        "tf_mopoe/distributions/likelihoods.py",
        "inflated_loc_logits=0.5 * zero_logits",
        "inflated_loc_logits=zero_logits",
        (
            "tests/distributions/test_likelihoods.py"
            "::test_zero_inflation_mixes_zeros_into_the_counts",
        ),
    ),
    Mutation(
        "logarithm of K in the importance-weighted bound",
        "tf_mopoe/objectives/importance_weighted.py",
        "return tf.math.log(count) - tf.reduce_logsumexp(log_weights, axis=0)",
        "return -tf.reduce_logsumexp(log_weights, axis=0)",
        (
            "tests/objectives/test_doubly_reparameterized.py"
            "::test_bound_is_the_log_of_the_mean_weight",
        ),
    ),
    Mutation(
        "factor of the doubly reparameterized gradient",
        "tf_mopoe/objectives/importance_weighted.py",
        "multiplier = (1.0 - factor) + factor * self._normalized",
        "multiplier = self._normalized",
        (
            "tests/objectives/test_doubly_reparameterized.py"
            "::test_dreg_has_the_mean_of_the_iwae_gradient_whatever_the_weights",
        ),
    ),
    Mutation(
        "density of the proposal in importance weights",
        "tf_mopoe/models/bounds.py",
        "return tf.reduce_logsumexp(tf.math.log(weights) + log_densities, axis=-1)",
        "return tf.reduce_sum(weights * log_densities, axis=-1)",
        (
            "tests/objectives/test_linear_gaussian_bounds.py"
            "::test_bounds_lie_below_the_log_evidence_and_rise_with_k_towards_it"
            "[MoPoEVAE-styles=False]",
        ),
    ),
    Mutation(
        "noise of a training step",
        "tf_mopoe/models/step_noise.py",
        "noise.fold_in(tf.constant([seed, 1], tf.int32), micro_step(optimizer))",
        "noise.fold_in(tf.constant([seed, 1], tf.int32), 0)",
        (
            "tests/models/test_multimodal_vae.py"
            "::test_noise_of_a_step_follows_from_the_seed_and_the_steps_number_alone",
        ),
    ),
    Mutation(
        "style of rows without the modality",
        "tf_mopoe/models/networks.py",
        "*(tf.where(is_present, x, zeros) for x in style)",
        "*(x for x in style)",
        (
            "tests/models/test_styles.py"
            "::test_styles_are_encoded_where_present_and_the_priors_where_not",
        ),
    ),
    Mutation(
        "mean of the weights in the log-likelihood's estimate",
        "tf_mopoe/objectives/importance_sampling.py",
        "mean = tf.reduce_mean(relative, axis=0)",
        "mean = tf.reduce_sum(relative, axis=0)",
        (
            "tests/models/test_log_likelihood.py"
            "::test_joint_and_conditional_are_the_closed_form",
        ),
    ),
)


def copy_repository(target: pathlib.Path) -> None:
    """Copies sources and tests, without what was built or downloaded."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*IGNORED))


def run_tests(folder: pathlib.Path, tests) -> subprocess.CompletedProcess:
    """Runs the tests with the folder's own code."""
    options = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "--tb=line"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=folder,
        # Bytecode files would outlive a change of the same length in the same second.
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
    )


def run_mutated(folder: pathlib.Path, mutation: Mutation) -> str:
    """Returns "caught" if the tests notice the mutation, else what went wrong."""
    path = folder / mutation.file
    text = path.read_text() if path.is_file() else ""
    count = text.count(mutation.source)
    if count != 1:
        return f"source text found {count} times"
    path.write_text(text.replace(mutation.source, mutation.replacement))
    try:
        result = run_tests(folder, mutation.tests)
    finally:
        path.write_text(text)
    if result.returncode == FAILED:
        return "caught"
    if result.returncode == PASSED:
        return "SURVIVED"
    print(result.stdout[-2000:], result.stderr[-2000:])
    return "tests not run"


def main(arguments: list[str] | None = None) -> int:
    """Runs the mutations named, all by default; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="words that the names of mutations to run contain"
    )
    names = parser.parse_args(arguments).names
    chosen = [m for m in MUTATIONS if not names or any(n in m.name for n in names)]
    if not chosen:
        parser.error(f"no mutation is named {names}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "repository"
        copy_repository(folder)
        tests = dict.fromkeys(test for mutation in chosen for test in mutation.tests)
        result = run_tests(folder, tests)
        if result.returncode != PASSED:
            print(result.stdout, result.stderr)
            print("The tests fail without a mutation.")
            return 1
        print(f"Without a mutation: {result.stdout.strip().splitlines()[-1]}")
        caught = 0
        width = max(len(mutation.name) for mutation in chosen)
        for mutation in chosen:
            start = time.perf_counter()
            outcome = run_mutated(folder, mutation)
            seconds = time.perf_counter() - start
            print(f"{mutation.name:{width}}  {seconds:4.0f} s  {outcome}", flush=True)
            caught += outcome == "caught"
    print(f"{caught} of {len(chosen)} mutations caught")
    return int(caught < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
