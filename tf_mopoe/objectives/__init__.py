"""Training objectives: functions of the terms that a model computes.

The objectives that a model offers are in `tf_mopoe.objectives.objective`.
"""

from tf_mopoe.objectives.elbo import negative_elbo
from tf_mopoe.objectives.importance_weighted import (
    DoublyReparameterized,
    log_importance_weights,
    negative_iwae,
)

__all__ = [
    "DoublyReparameterized",
    "log_importance_weights",
    "negative_elbo",
    "negative_iwae",
]
