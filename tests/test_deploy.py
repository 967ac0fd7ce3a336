"""The manifests: they parse, place the workers, and use the exporter's files."""

import contextlib
import http.server
import os
import pathlib
import re
import shlex
import socket
import subprocess
import threading

import pytest
import yaml
from google.protobuf import text_format

from export.publication.server_config import METRICS_PATH, write_server_files
from trainers.fitting.strategy import read_tf_config
from trainers.recipes.registry import choose_recipe
from trainers.train import make_parser

DEPLOY = pathlib.Path(__file__).parents[1] / "deploy"


@pytest.fixture
def commands(tmp_path):
    """A folder of substitutes for the commands of a cluster."""

    def write(name, text):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    write("mopoe-train", 'echo "$TF_CONFIG" | tr -d "\\n"; echo; echo "$@"')
    write("scontrol", 'if [ "$1" = show ]; then echo node7; echo node9; fi')
    write("srun", 'shift; SLURM_PROCID=1 exec "$@"')
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    return tmp_path


def run(command, folder, **variables):
    path = f"{folder}:{os.environ['PATH']}"
    completed = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": path, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return completed.stdout.splitlines()


def assert_second_of_two(tf_config, arguments, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    index, workers = read_tf_config()
    assert (index, len(workers)) == (1, 2)
    options = make_parser().parse_args(shlex.split(arguments))
    settings = dict(setting.split("=") for setting in options.settings)
    assert (
        choose_recipe(options.recipe, None, settings).config.strategy == "multi_worker"
    )


def test_kubernetes_gives_each_pod_its_place(commands, monkeypatch):
    service, job = yaml.safe_load_all((DEPLOY / "train-kubernetes.yaml").read_text())
    workers = job["spec"]["completions"]
    assert workers == job["spec"]["parallelism"] == 2
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    [container] = pod["containers"]
    [variable] = container["env"]
    assert variable == {"name": "WORKERS", "value": str(workers)}
    lines = run(container["command"], commands, WORKERS="2", JOB_COMPLETION_INDEX="1")
    assert "mopoe-train-0.mopoe-train:12345" in lines[0]
    assert_second_of_two(*lines, monkeypatch)


def test_slurm_gives_each_task_its_place(commands, monkeypatch):
    script = DEPLOY / "train-slurm.sbatch"
    variables = {"SLURM_JOB_NODELIST": "node[7,9]", "SLURM_JOB_ID": "1"}
    lines = run(["bash", str(script)], commands, **variables)
    assert "node7:12345" in lines[0]
    assert_second_of_two(*lines, monkeypatch)


#: Flags of tensorflow_model_server (tensorflow_serving/model_servers/main.cc).
SERVER_FLAGS = re.findall(
    r"\w+",
    """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms
rest_api_enable_cors_support enable_batching batching_parameters_file
allow_version_labels_for_unavailable_models enable_per_model_batching_parameters
model_config_file model_config_file_poll_wait_seconds model_name model_base_path
num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros
file_system_poll_wait_seconds flush_filesystem_caches tensorflow_session_parallelism
tensorflow_session_config_file tensorflow_intra_op_parallelism
tensorflow_inter_op_parallelism ssl_config_file platform_config_file
per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments grpc_max_threads
enable_model_warmup num_request_iterations_for_warmup version monitoring_config_file
remove_unused_fields_from_bundle_metagraph enable_signature_method_name_check
enable_profiler thread_pool_factory_config_file
""",
)
#: The server's own pattern (model_servers/http_rest_api_util.cc).
METADATA = (
    r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?/metadata"
)


@pytest.fixture
def compose():
    text = (DEPLOY / "serving-compose.yaml").read_text()
    return yaml.safe_load(text)["services"]["serving"]


@pytest.fixture
def kubernetes():
    text = (DEPLOY / "serving-kubernetes.yaml").read_text()
    return list(yaml.safe_load_all(text))


def server_flags(arguments):
    flags = dict(argument.split("=") for argument in arguments)
    return {name.removeprefix("--"): value for name, value in flags.items()}


def assert_server_reads_the_exporters_files(arguments, mount, cores, tmp_path):
    flags = server_flags(arguments)
    assert set(flags) <= set(SERVER_FLAGS)
    write_server_files(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    given = [value for name, value in flags.items() if name.endswith("_file")]
    assert {f"{mount}/{name}" for name in written} == set(given)
    (tmp_path / "some" / "1").mkdir(parents=True)
    (tmp_path / "some" / "1" / "saved_model.pb").write_text("")
    write_server_files(tmp_path)
    assert f'base_path: "{mount}/some"' in (tmp_path / "models.config").read_text()
    # The server refuses batching parameters without this flag.
    assert flags["enable_batching"] == "true"
    assert int(flags["model_config_file_poll_wait_seconds"]) > 0
    threads = re.search(
        r"num_batch_threads \{ value: (\d+) \}",
        (tmp_path / "batching.config").read_text(),
    )
    assert threads[1] == cores
    assert flags["tensorflow_intra_op_parallelism"] == cores
    assert flags["tensorflow_inter_op_parallelism"] == cores


def test_compose_starts_the_server_with_the_exporters_files(compose, tmp_path):
    assert compose["entrypoint"] == ["tensorflow_model_server"]
    [volume] = compose["volumes"]
    assert volume["read_only"] is True
    cores = compose["deploy"]["resources"]["limits"]["cpus"]
    command = compose["command"]
    assert_server_reads_the_exporters_files(command, volume["target"], cores, tmp_path)
    flags = server_flags(command)
    ports = [port.split(":") for port in compose["ports"]]
    assert [port[-1] for port in ports] == [flags["port"], flags["rest_api_port"]]
    assert {port[0] for port in ports} == {"127.0.0.1"}


def test_kubernetes_starts_the_server_with_the_exporters_files(kubernetes, tmp_path):
    service, deployment = kubernetes
    spec = deployment["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert labels == spec["selector"]["matchLabels"] == service["spec"]["selector"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    [container] = spec["template"]["spec"]["containers"]
    assert container["command"] == ["tensorflow_model_server"]
    [mount] = container["volumeMounts"]
    assert mount["readOnly"]
    cores, path = container["resources"]["limits"]["cpu"], mount["mountPath"]
    assert_server_reads_the_exporters_files(container["args"], path, cores, tmp_path)
    [volume] = spec["template"]["spec"]["volumes"]
    assert volume["name"] == mount["name"]


def test_kubernetes_ports_and_probes_are_the_servers(kubernetes):
    service, deployment = kubernetes
    pod = deployment["spec"]["template"]
    [container] = pod["spec"]["containers"]
    flags = server_flags(container["args"])
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert ports == {"grpc": flags["port"], "rest": flags["rest_api_port"]}
    for port in service["spec"]["ports"]:
        assert port["targetPort"] == port["name"]
        assert str(port["port"]) == ports[port["name"]]
    annotations = pod["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == METRICS_PATH
    assert annotations["prometheus.io/port"] == flags["rest_api_port"]
    for probe in ("startupProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        assert re.fullmatch(METADATA, get["path"])[1]
        assert get["port"] == "rest"
    # Not of a model: a restart does not help a version that can't be loaded.
    liveness = container["livenessProbe"]["httpGet"]
    assert liveness == {"path": METRICS_PATH, "port": "rest"}
    slept = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert slept < pod["spec"]["terminationGracePeriodSeconds"]


def test_model_is_named_in_one_place_of_the_kubernetes_manifest():
    lines = (DEPLOY / "serving-kubernetes.yaml").read_text().splitlines()
    named = [line for line in lines if "polymnist" in line]
    assert len(named) == 1
    assert named[0].endswith("# MODEL")


@contextlib.contextmanager
def stand_in(loaded):
    """A server with the answers of TensorFlow Serving, with or without a version."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            is_known = self.path == "/v1/models/polymnist" or (
                self.path == "/v1/models/polymnist/metadata" and loaded
            )
            body = b'{"error": "200"}\n'
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def health(compose, port):
    kind, *command = compose["healthcheck"]["test"]
    assert kind == "CMD"
    assert command[:2] == ["timeout", "5"]
    command = ["timeout", "1", *command[2:]]
    command = [part.replace("$$", "$").replace("8501", str(port)) for part in command]
    environment = {"PATH": os.environ["PATH"], "MODEL": "polymnist"}
    return subprocess.run(
        command, env=environment, stderr=subprocess.DEVNULL, check=False
    ).returncode


@pytest.mark.integration
def test_compose_is_healthy_only_while_a_version_is_loaded(compose):
    script = compose["healthcheck"]["test"][-1]
    assert re.fullmatch(METADATA, re.search(r"GET (\S+) ", script)[1])
    assert compose["environment"]["MODEL"].startswith("${MODEL:?")
    with stand_in(loaded=True) as port:
        assert health(compose, port) == 0
    with stand_in(loaded=False) as port:
        assert health(compose, port) != 0
    assert health(compose, port) != 0  # no server any more
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert health(compose, silent.getsockname()[1]) != 0


def test_both_manifests_serve_with_the_same_image_and_flags(compose, kubernetes):
    [container] = kubernetes[1]["spec"]["template"]["spec"]["containers"]
    default = re.fullmatch(r"\$\{SERVING_IMAGE:-(.+)\}", compose["image"])[1]
    assert container["image"] == default
    assert container["args"] == compose["command"]


def test_configurations_of_the_page_parse_as_the_servers():
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    page = (DEPLOY / "SERVING.md").read_text()
    blocks = re.findall(r"```proto\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        parsed = text_format.Parse(block, config.ModelServerConfig())
        [model] = parsed.model_config_list.config
        pinned = set(model.model_version_policy.specific.versions)
        assert pinned
        assert set(model.version_labels.values()) <= pinned
    for flag in re.findall(r"--(\w+)=", page):
        assert flag in SERVER_FLAGS


def test_files_that_the_page_names_exist():
    page = (DEPLOY / "SERVING.md").read_text()
    for name in re.findall(r"deploy/[\w.-]+", page):
        assert (DEPLOY.parent / name).is_file()
