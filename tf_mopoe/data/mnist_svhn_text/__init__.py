"""MNIST-SVHN-Text: a digit, handwritten, as a house number and in words."""

from tf_mopoe.data.mnist_svhn_text.mnist_svhn_text_dataset_builder import (
    Builder,
    MnistSvhnTextConfig,
)

__all__ = ["Builder", "MnistSvhnTextConfig"]
