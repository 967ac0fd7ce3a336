"""Encoders and decoders of modalities."""

from tf_mopoe.nets.convolutional import conv_decoder, conv_encoder
from tf_mopoe.nets.defaults import default_decoder, default_encoder
from tf_mopoe.nets.dense import dense_decoder, dense_encoder
from tf_mopoe.nets.log1p import Log1p
from tf_mopoe.nets.residual import (
    residual_image_decoder,
    residual_image_encoder,
    residual_text_decoder,
    residual_text_encoder,
)
from tf_mopoe.nets.svhn import svhn_decoder, svhn_encoder
from tf_mopoe.nets.text import text_decoder, text_encoder

__all__ = [
    "Log1p",
    "conv_decoder",
    "conv_encoder",
    "default_decoder",
    "default_encoder",
    "dense_decoder",
    "dense_encoder",
    "residual_image_decoder",
    "residual_image_encoder",
    "residual_text_decoder",
    "residual_text_encoder",
    "svhn_decoder",
    "svhn_encoder",
    "text_decoder",
    "text_encoder",
]
