"""PolyMNIST: five views of a handwritten digit, each on a different background."""

from tf_mopoe.data.poly_mnist.poly_mnist_dataset_builder import (
    Builder,
    PolyMnistConfig,
)

__all__ = ["Builder", "PolyMnistConfig"]
