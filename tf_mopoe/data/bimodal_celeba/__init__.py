"""Bimodal CelebA: faces, and text that lists their attributes."""

from tf_mopoe.data.bimodal_celeba.bimodal_celeba_dataset_builder import (
    BimodalCelebaConfig,
    Builder,
)

__all__ = ["BimodalCelebaConfig", "Builder"]
