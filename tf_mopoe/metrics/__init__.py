"""Evaluation of trained models: coherence, probes, sample quality, imputation, priors.

Log-likelihoods are a method of the models, `log_likelihood`.

To add a metric, write:

1. A module in this package with one public function of a model or of arrays and data
   that returns plain numbers by name. Check its arguments with `subset_samples`
   (complete rows), `incomplete_rows` (rows with flags), `labels` and `seeds`; its
   docstring has an example.
2. Its name in `__all__` below.
3. An entry in `CALLS` of `tests/metrics/test_arguments.py`, and a test of its values
   against NumPy or a closed form.
4. To include it in the evaluation of runs, a measure in
   `trainers/evaluation/measures/`.
"""

from tf_mopoe.metrics.aggregate_posterior import (
    aggregate_posterior_samples,
    fit_gaussian_mixture,
)
from tf_mopoe.metrics.attribute_coherence import attribute_coherence, average_precision
from tf_mopoe.metrics.classifiers import (
    classifier_accuracy,
    classifier_features,
    classifier_inputs,
    default_classifier,
    train_classifier,
)
from tf_mopoe.metrics.coherence import (
    conditional_coherence,
    joint_coherence,
    mean_by_number_given,
)
from tf_mopoe.metrics.feature_distances import (
    PrecisionRecall,
    frechet_distance,
    max_f_beta,
    precision_recall_distribution,
)
from tf_mopoe.metrics.imputation import imputation_error
from tf_mopoe.metrics.interval_coverage import interval_coverage
from tf_mopoe.metrics.latent_classification import linear_probe
from tf_mopoe.metrics.normalizing_flow import fit_flow
from tf_mopoe.metrics.representation import (
    PrecisionShare,
    Traversal,
    latent_traversal,
    precision_share,
    swap_styles,
)
from tf_mopoe.metrics.sample_quality import inception_features, sample_quality

__all__ = [
    "PrecisionRecall",
    "PrecisionShare",
    "Traversal",
    "aggregate_posterior_samples",
    "attribute_coherence",
    "average_precision",
    "classifier_accuracy",
    "classifier_features",
    "classifier_inputs",
    "conditional_coherence",
    "default_classifier",
    "fit_flow",
    "fit_gaussian_mixture",
    "frechet_distance",
    "imputation_error",
    "inception_features",
    "interval_coverage",
    "joint_coherence",
    "latent_traversal",
    "linear_probe",
    "max_f_beta",
    "mean_by_number_given",
    "precision_recall_distribution",
    "precision_share",
    "sample_quality",
    "swap_styles",
    "train_classifier",
]
