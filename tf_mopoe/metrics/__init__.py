"""Evaluation of trained models: coherence and latent classification."""

from tf_mopoe.metrics.classifiers import (
    classifier_accuracy,
    image_classifier,
    train_classifier,
)
from tf_mopoe.metrics.coherence import (
    conditional_coherence,
    joint_coherence,
    mean_by_number_given,
)
from tf_mopoe.metrics.latent_classification import linear_probe

__all__ = [
    "classifier_accuracy",
    "conditional_coherence",
    "image_classifier",
    "joint_coherence",
    "linear_probe",
    "mean_by_number_given",
    "train_classifier",
]
