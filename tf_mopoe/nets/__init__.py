"""Encoders and decoders to build modalities from."""

from tf_mopoe.nets.convolutional import conv_decoder, conv_encoder
from tf_mopoe.nets.defaults import default_decoder, default_encoder
from tf_mopoe.nets.dense import dense_decoder, dense_encoder
from tf_mopoe.nets.log1p import Log1p

__all__ = [
    "Log1p",
    "conv_decoder",
    "conv_encoder",
    "default_decoder",
    "default_encoder",
    "dense_decoder",
    "dense_encoder",
]
