"""Training objectives: pure functions of the terms that a model computes."""

from tf_mopoe.objectives.elbo import negative_elbo

__all__ = ["negative_elbo"]
