"""Runs the client tests against a real TensorFlow Serving, if one is installed.

Uses `tensorflow_model_server` from PATH, else Docker with the image TF_SERVING_IMAGE
(default: tensorflow/serving:latest). Publishes the tests' models into a temporary
folder, starts the server on free ports with the export's configuration files, runs the
tests and stops the server. Exits with the code of the tests; prints "not run" if
neither is installed.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
BINARY = "tensorflow_model_server"
IMAGE = "tensorflow/serving:latest"
TESTS = "tests/export/client"
#: Path of the served folder in a container.
MOUNT = "/models"
#: Seconds until all models must be loaded; an image may have to be fetched first.
LOADING_TIMEOUT = 900.0


def find_server() -> tuple[str | None, list[str]]:
    """The kind of server, "native" or "docker", and the reasons against the others."""
    reasons: list[str] = []
    if shutil.which(BINARY):
        return "native", reasons
    reasons.append(f"no {BINARY} on PATH")
    if shutil.which("docker") is None:
        reasons.append("no docker on PATH")
        return None, reasons
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        result = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        reasons.append("Docker's daemon does not answer")
        return None, reasons
    if result.returncode != 0:
        reasons.append("Docker's daemon is not running")
        return None, reasons
    return "docker", reasons


def server_flags(folder: str, port: int, rest_port: int) -> list[str]:
    """Flags of `tensorflow_model_server` for the published models."""
    return [
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={folder}/models.config",
        "--enable_batching=true",
        f"--batching_parameters_file={folder}/batching.config",
        f"--monitoring_config_file={folder}/monitoring.config",
    ]


def server_command(
    kind: str, serving_dir: pathlib.Path, port: int, rest_port: int
) -> list[str]:
    """The command that starts the server in the foreground."""
    if kind == "native":
        return [BINARY, *server_flags(str(serving_dir), port, rest_port)]
    image = os.environ.get("TF_SERVING_IMAGE", IMAGE)
    return [
        *("docker", "run", "--rm"),
        *("--init", "--entrypoint", BINARY),
        *("--publish", f"127.0.0.1:{port}:8500"),
        *("--publish", f"127.0.0.1:{rest_port}:8501"),
        *("--volume", f"{serving_dir}:{MOUNT}:ro"),
        *(image, *server_flags(MOUNT, 8500, 8501)),
    ]


def free_ports() -> tuple[int, int]:
    """Two unused ports."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def is_loaded(address: str, model: str) -> bool:
    """Whether a server at host:port has a model available."""
    url = f"http://{address}/v1/models/{model}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            versions = json.load(response)["model_version_status"]
    except (OSError, ValueError, urllib.error.URLError):
        return False
    return any(version["state"] == "AVAILABLE" for version in versions)


@contextlib.contextmanager
def started(command: list[str], log: pathlib.Path) -> Iterator[subprocess.Popen]:
    """The running server; it is stopped at the end."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield server
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()


def run_tests(server: subprocess.Popen, models: list[str], port: int, rest: int) -> int:
    """Waits for the models and runs the tests; returns their exit code."""
    address, until = f"127.0.0.1:{rest}", time.monotonic() + LOADING_TIMEOUT
    while not all(is_loaded(address, model) for model in models):
        if server.poll() is not None or time.monotonic() > until:
            print("serve-check: the server did not load the models; its last lines:")
            return 1
        time.sleep(0.2)
    named = {"TF_MOPOE_REST": address, "TF_MOPOE_GRPC": f"127.0.0.1:{port}"}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", TESTS, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **named}).returncode


def main() -> int:
    """Runs the check; returns the exit code."""
    kind, reasons = find_server()
    if kind is None:
        print(f"not run: {'; '.join(reasons)}.")
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.insert(0, str(ROOT))
    from export.publication.server_config import write_server_files
    from tests.export.client.served_models import publish_served_models

    with tempfile.TemporaryDirectory() as folder:
        serving_dir = pathlib.Path(folder, "models")
        log = pathlib.Path(folder, "server.log")
        publish_served_models(serving_dir)
        mount = str(serving_dir) if kind == "native" else MOUNT
        write_server_files(serving_dir, mount)
        models = [path.name for path in serving_dir.iterdir() if path.is_dir()]
        port, rest_port = free_ports()
        command = server_command(kind, serving_dir, port, rest_port)
        print("$", *command, flush=True)
        with started(command, log) as server:
            code = run_tests(server, models, port, rest_port)
        if code != 0:
            print(log.read_text(errors="replace")[-3000:])
        return code


if __name__ == "__main__":
    sys.exit(main())
