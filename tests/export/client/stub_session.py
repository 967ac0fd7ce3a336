"""A model without a network: predictable answers, and a record of its inputs."""

import numpy as np
from tensorflow.core.framework import tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2


class StubSession:
    """Modalities `x` (float32 `[B, 2]`) and `c` (int32 `[B]`), and two signatures.

    `serving_default` answers with x and c doubled, `log_likelihood` with the sum of x
    plus the seed.

    Attributes:
      feeds: Feeds of all runs so far.
    """

    def __init__(self, width: int = 2):
        inputs = {
            "x": info("FLOAT", width),
            "has_x": info("BOOL"),
            "c": info("INT32"),
            "has_c": info("BOOL"),
        }
        self.signatures = {
            "serving_default": signature(
                inputs, {"x": info("FLOAT", width), "c": info("INT32")}
            ),
            "log_likelihood": signature(
                {**inputs, "seed": info("INT64")}, {"log_likelihood": info("DOUBLE")}
            ),
        }
        self.feeds: list[dict[str, np.ndarray]] = []
        self.width = width

    def run(self, signature, feed):
        from export.verification.session import SessionError

        self.feeds.append(feed)
        if feed["x"].shape[1:] != (self.width,):
            raise SessionError(3, f"Expects arg[0] of width {self.width}")
        if "seed" in feed:
            total = feed["x"].sum(axis=1, dtype=np.float64) + feed["seed"]
            return {"log_likelihood": total}
        return {"x": 2 * feed["x"], "c": 2 * feed["c"]}


def info(dtype: str, *shape: int) -> meta_graph_pb2.TensorInfo:
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in (-1, *shape)]
    return meta_graph_pb2.TensorInfo(
        dtype=types_pb2.DataType.Value(f"DT_{dtype}"),
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims),
    )


def signature(inputs, outputs) -> meta_graph_pb2.SignatureDef:
    return meta_graph_pb2.SignatureDef(inputs=inputs, outputs=outputs)
