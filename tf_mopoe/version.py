"""Version of the package; the build reads it without importing TensorFlow."""

__version__ = "0.1.0"
