"""`make serve-check` prints why it does not run, or runs the client tests."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from scripts import serve_check

ROOT = pathlib.Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "serve_check.py"


def executable(path: pathlib.Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def check(path: str, *arguments: str):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_server_the_reason_is_printed(tmp_path):
    result = check(str(tmp_path))
    message = "not run: no tensorflow_model_server on PATH; no docker on PATH.\n"
    assert (result.returncode, result.stdout, result.stderr) == (0, message, "")


def test_docker_without_its_daemon_is_no_server(tmp_path):
    executable(tmp_path / "docker", "echo cannot connect >&2; exit 1")
    result = check(str(tmp_path))
    assert result.returncode == 0
    assert (
        "not run: no tensorflow_model_server on PATH; Docker's daemon" in result.stdout
    )


def test_docker_with_its_daemon_is_a_server(tmp_path, monkeypatch):
    executable(tmp_path / "docker", "echo 28.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert serve_check.find_server()[0] == "docker"
    executable(tmp_path / "tensorflow_model_server", "")
    assert serve_check.find_server() == ("native", [])


def test_container_sees_the_folder_at_the_mount_and_the_ports_it_publishes(monkeypatch):
    monkeypatch.setenv("TF_SERVING_IMAGE", "serving:own")
    folder = pathlib.Path("/a/b")
    command = serve_check.server_command("docker", folder, 1, 2)
    flags = command[command.index("serving:own") + 1 :]
    assert "/a/b:/models:ro" in command
    assert {"127.0.0.1:1:8500", "127.0.0.1:2:8501"} <= set(command)
    assert {"--port=8500", "--rest_api_port=8501"} <= set(flags)
    assert "--model_config_file=/models/models.config" in flags
    native = serve_check.server_command("native", folder, 1, 2)
    assert {"--port=1", "--model_config_file=/a/b/models.config"} <= set(native)


def test_server_that_dies_is_a_failure_with_its_last_lines(
    tmp_path, monkeypatch, capsys
):
    command = ["sh", "-c", "echo no such flag; exit 3"]
    with serve_check.started(command, tmp_path / "log") as server:
        assert serve_check.run_tests(server, ["m"], *serve_check.free_ports()) == 1
    assert "did not load the models" in capsys.readouterr().out
    assert "no such flag" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_client_tests_pass_against_a_server_that_is_found(tmp_path):
    server = f'cd "{ROOT}" && exec "{sys.executable}" -m tests.export.model_server "$@"'
    executable(tmp_path / "tensorflow_model_server", server)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    result = check(path, "-p", "no:cacheprovider")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "passed" in result.stdout
    assert "a real server has no faults on demand" in result.stdout
    assert "tensorflow_model_server --port=" in result.stdout
