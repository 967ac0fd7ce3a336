"""Evaluation of trained models: coherence, probes, sample quality, imputation, priors.

Log-likelihoods are a method of the models, `log_likelihood`.
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
from tf_mopoe.metrics.sample_quality import (
    PrecisionRecall,
    frechet_distance,
    inception_features,
    max_f_beta,
    precision_recall_distribution,
    sample_quality,
)

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
