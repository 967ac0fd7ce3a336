"""Stands in for `tensorflow_model_server`: its flags, and both test servers.

    python -m tests.export.model_server --port=8500 --rest_api_port=8501 \
        --model_config_file=models.config [...]

Ends with SIGTERM.
"""

import argparse
import pathlib
import signal
import threading

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.export.model_store import ModelStore
from tests.export.prediction_service import GrpcServer
from tests.export.rest_server import RestServer


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in ("port", "rest_api_port"):
        parser.add_argument(f"--{flag}", type=int, required=True)
    for flag in (
        "model_config_file",
        "batching_parameters_file",
        "monitoring_config_file",
    ):
        parser.add_argument(f"--{flag}", type=pathlib.Path, required=True)
    parser.add_argument("--enable_batching", choices=["true"], required=True)
    options = parser.parse_args()
    config = text_format.Parse(
        options.model_config_file.read_text(),
        model_server_config_pb2.ModelServerConfig(),
    )
    for path in (options.batching_parameters_file, options.monitoring_config_file):
        if not path.read_text():
            parser.error(f"{path} is empty")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    store = ModelStore()
    with RestServer(store, options.rest_api_port), GrpcServer(store, options.port):
        for model in config.model_config_list.config:
            folders = pathlib.Path(model.base_path).iterdir()
            newest = max((f for f in folders if f.name.isdecimal()), key=_version)
            store.load(model.name, _version(newest), newest)
        stop.wait()


def _version(folder: pathlib.Path) -> int:
    return int(folder.name)


if __name__ == "__main__":
    main()
