"""Manifests for several hosts: they parse, and give each worker its place."""

import os
import pathlib
import shlex
import subprocess

import pytest
import yaml

from trainers.config_file import choose
from trainers.strategy import _place_in_cluster
from trainers.train import make_parser

DEPLOY = pathlib.Path(__file__).parents[1] / "deploy"


@pytest.fixture
def commands(tmp_path):
    """A folder of commands that stand for those of a cluster."""

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
    assert _place_in_cluster() == (1, 2)
    options = make_parser().parse_args(shlex.split(arguments))
    settings = dict(setting.split("=") for setting in options.settings)
    assert choose(options.recipe, None, settings).config.strategy == "multi_worker"


def test_kubernetes_gives_each_pod_its_place(commands, monkeypatch):
    service, job = yaml.safe_load_all((DEPLOY / "train-kubernetes.yaml").read_text())
    workers = job["spec"]["completions"]
    assert workers == job["spec"]["parallelism"] == 2
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    [container] = pod["containers"]
    [variable] = container["env"]
    assert variable == {"name": "WORKERS", "value": str(workers)}
    said = run(container["command"], commands, WORKERS="2", JOB_COMPLETION_INDEX="1")
    assert "mopoe-train-0.mopoe-train:12345" in said[0]
    assert_second_of_two(*said, monkeypatch)


def test_slurm_gives_each_task_its_place(commands, monkeypatch):
    script = DEPLOY / "train-slurm.sbatch"
    variables = {"SLURM_JOB_NODELIST": "node[7,9]", "SLURM_JOB_ID": "1"}
    said = run(["bash", str(script)], commands, **variables)
    assert "node7:12345" in said[0]
    assert_second_of_two(*said, monkeypatch)
