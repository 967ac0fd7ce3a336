"""Encoders and decoders as files for runtimes other than TensorFlow: LiteRT, ONNX."""

from export.portable.writing import FORMATS, write_portable

__all__ = ["FORMATS", "write_portable"]
