"""Workers wait for one another: they print for whom, and can be stopped."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from trainers.errors import RunError, UsageError
from trainers.fitting import rendezvous
from trainers.fitting.rendezvous import split_address, wait_for_workers
from trainers.fitting.strategy import _parse_cluster, read_tf_config

ROOT = pathlib.Path(__file__).parents[2]


def free_addresses(count):
    listeners = [socket.create_server(("localhost", 0)) for _ in range(count)]
    found = [f"localhost:{listener.getsockname()[1]}" for listener in listeners]
    for listener in listeners:
        listener.close()
    return found


def test_single_worker_does_not_wait():
    wait_for_workers(free_addresses(1), 0, limit=0.0)


@pytest.mark.parametrize("count", [2, 4])
def test_workers_that_start_at_different_times_all_meet(count):
    addresses, gone_on = free_addresses(count), []

    def work(index):
        time.sleep(0.3 * index)
        wait_for_workers(addresses, index, limit=30.0)
        # As TensorFlow does, it takes the port over, and is there for the others.
        host, port = split_address(addresses[index])
        server = socket.create_server((host, port))
        gone_on.append(server)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(gone_on) == count
    for server in gone_on:
        server.close()


def test_message_names_missing_workers_only(monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "FIRST_MESSAGE", 0.2)
    addresses = free_addresses(3)
    host, port = split_address(addresses[0])
    with (
        socket.create_server((host, port)),
        pytest.raises(RunError) as failed,
    ):
        wait_for_workers(addresses, 1, limit=1.0)
    error = capsys.readouterr().err
    assert f"worker 1: waiting for worker 2 ({addresses[2]}) (" in error
    assert addresses[0] not in error
    assert 1 <= error.count("\n") <= 3  # the second pause is longer than the first
    assert f"worker 1 waited 1 s, but can't reach worker 2 ({addresses[2]})" in str(
        failed.value
    )
    assert "\n" not in str(failed.value)


def test_port_in_use_is_named():
    addresses = free_addresses(2)
    port = split_address(addresses[0])[1]
    with (
        socket.create_server(("", port)),
        pytest.raises(RunError, match=f"this worker's address.*{addresses[0]}.*in use"),
    ):
        wait_for_workers(addresses, 0, limit=1.0)


@pytest.mark.parametrize(
    "text", ["host", "host:", ":1", "host:port", "host:0", "host:65536", "host:-1", ""]
)
def test_addresses_without_host_and_port_are_refused(text, monkeypatch):
    with pytest.raises(ValueError):  # noqa: PT011
        split_address(text)
    workers = {"worker": [text, "other:2"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": workers, "task": task}))
    with pytest.raises(UsageError, match="TF_CONFIG"):
        read_tf_config()


@pytest.mark.parametrize(
    ("workers", "index"),
    [
        (["a:1", "a:1"], 0),
        ("a:1", 0),
        ({"0": "a:1"}, 0),
        (["a:1", "b:1"], 0.5),
        (["a:1", "b:1"], True),
        (["a:1", "b:1"], -1),
        (["a:1", "b:1"], 2),
        (["a:1", 5], 0),
    ],
)
def test_a_cluster_of_another_form_is_refused(workers, index):
    content = {"cluster": {"worker": workers}, "task": {"type": "worker"}}
    content["task"]["index"] = index
    with pytest.raises((KeyError, TypeError, ValueError)):
        _parse_cluster(content)


def test_an_address_may_be_of_ip_version_6_and_an_index_a_text():
    assert split_address("[::1]:12") == ("::1", 12)
    content = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker"}}
    content["task"]["index"] = "1"
    assert _parse_cluster(content) == (1, ["a:1", "b:1"])


def start(out, addresses, *settings):
    task = {"type": "worker", "index": 0}
    cluster = {"cluster": {"worker": addresses}, "task": task}
    command = [sys.executable, "-m", "trainers.train", "polydigits", "--out", str(out)]
    return subprocess.Popen(
        [*command, "--set", "strategy=multi_worker", *settings],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CONFIG": json.dumps(cluster),
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_waiting_worker_stops_immediately_on_a_signal(number, tmp_path):
    addresses = free_addresses(2)
    process = start(tmp_path / "run", addresses)
    for line in process.stderr:
        if line.startswith("worker 0: waiting for"):
            break
    assert f"waiting for worker 1 ({addresses[1]})" in line
    process.send_signal(number)
    sent = time.monotonic()
    _, rest = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == 75
    assert rest.strip() == (
        f"mopoe-train: stopped by {number.name} before training began; run the "
        "same command again to resume."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_worker_that_waited_too_long_fails_with_the_missing_workers_name(tmp_path):
    addresses = free_addresses(2)
    process = start(tmp_path / "run", addresses, "wait_minutes=0.01")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    last = error.strip().splitlines()[-1]
    assert last.startswith("mopoe-train: failed: strategy: worker 0 waited 0.6 s")
    assert f"worker 1 ({addresses[1]})" in last
