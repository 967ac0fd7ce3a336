"""Exporters killed at any moment never show an incomplete version.

A reader lists the model's folder all the while as TensorFlow Serving does: every folder
with an integer name counts. A version may be pruned after it was listed and before it
was read; then its name is gone from the next listing. One that is incomplete and still
listed is the failure looked for: no number is given twice.
"""

import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

import pytest

from export.publication.versions import release, staged

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 50

EXPORTER = """
import hashlib, json, os, sys, time
from export.publication.versions import release, staged

print("ready", flush=True)
while True:
    with staged(sys.argv[1]) as folder:
        manifest = {}
        (folder / "variables").mkdir()
        for name in ("variables/data", "variables/index", "saved_model.pb"):
            content = os.urandom(5000)
            manifest[name] = [len(content), hashlib.sha256(content).hexdigest()]
            with open(folder / name, "wb", buffering=0) as file:
                for start in range(0, 5000, 1000):
                    file.write(content[start : start + 1000])
                    time.sleep(0.0005)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        release(folder, sys.argv[1], keep=2)
"""


def is_complete(version):
    """Whether a version of EXPORTER is as its manifest says."""
    try:
        manifest = json.loads((version / "manifest.json").read_text())
        for name, (size, digest) in manifest.items():
            content = (version / name).read_bytes()
            if (len(content), hashlib.sha256(content).hexdigest()) != (size, digest):
                return False
    except (OSError, ValueError):
        return False
    return True


class Reader:
    """Lists versions in a thread of its own, as a server does, and checks each."""

    def __init__(self, base, is_complete):
        self.base, self.is_complete = base, is_complete
        self.seen, self.incomplete, self.highest, self.fell = set(), [], 0, []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def list(self):
        names = os.listdir(self.base) if self.base.exists() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def _run(self):
        while not self._stop.is_set():
            listed = self.list()
            highest = max(listed, default=0)
            if highest < self.highest:
                self.fell.append((self.highest, highest))
            self.highest = max(self.highest, highest)
            for number in listed:
                complete = self.is_complete(self.base / str(number))
                if not complete and number in self.list():
                    self.incomplete.append(number)
            self.seen.update(listed)
            time.sleep(0.0005)  # leaves the processor to the exporters


def hidden(base):
    return [name for name in os.listdir(base) if name.startswith(".")]


def test_reader_would_notice_an_incomplete_version(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "manifest.json").write_text('{"saved_model.pb": [1, ""]}')
    with Reader(tmp_path, is_complete) as reader:
        for _ in range(100):
            time.sleep(0.01)
            if reader.incomplete:
                break
    assert set(reader.incomplete) == {1}


@pytest.mark.integration
def test_killed_exporters_never_show_an_incomplete_version(tmp_path):
    base, generator, leftovers = tmp_path / "model", random.Random(0), 0
    command = [sys.executable, "-S", "-c", EXPORTER, str(base)]
    with Reader(base, is_complete) as reader:
        for _ in range(KILLS // 2):
            processes = [
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
                for _ in range(2)
            ]
            for process in processes:
                with process:
                    process.stdout.readline()
                    time.sleep(generator.uniform(0, 0.12))
                    process.kill()
            leftovers += base.exists() and bool(hidden(base))
    assert reader.incomplete == []
    assert reader.fell == []
    assert len(reader.seen) > KILLS / 2
    assert leftovers > KILLS / 4  # after most rounds: they were busy in there
    with staged(base) as folder:
        assert release(folder, base, keep=1).name == str(reader.highest + 1)
    assert os.listdir(base) == [str(reader.highest + 1)]


def files(folder):
    """The names of all files; those found so far where the folder goes meanwhile."""
    names_so_far = set()
    for root, _, names in os.walk(folder):
        names_so_far |= {pathlib.Path(root, name).relative_to(folder) for name in names}
    return names_so_far


@pytest.mark.slow
def test_killed_commands_never_show_an_incomplete_version(tmp_path):
    from export.publication.publish import verify
    from tf_mopoe import MVAE, Modality

    model = MVAE([Modality("a", (3,)), Modality("b", (2,))], latent_dim=2, name="small")
    model.save(tmp_path / "model.keras")
    base, generator = tmp_path / "serving" / "small", random.Random(0)
    command = [sys.executable, "-W", "ignore", "-m", "export.command"]
    command += [str(tmp_path), str(base.parent), "--keep", "2"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

    def start_two():
        options = {"cwd": ROOT, "env": environment}
        options |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return [subprocess.Popen(command, **options) for _ in range(2)]

    started = time.monotonic()
    processes = start_two()
    while not base.exists():
        time.sleep(0.01)
    imported = time.monotonic() - started
    assert [process.wait() for process in processes] == [0, 0]
    duration = time.monotonic() - started
    expected, leftovers = files(base / "1"), 0
    assert {path.parts[0] for path in expected} >= {
        "saved_model.pb", "variables", "assets.extra",
    }  # fmt: skip
    with Reader(base, lambda version: files(version) == expected) as reader:
        for _ in range(KILLS // 2):
            started = time.monotonic()
            moments = sorted(generator.uniform(imported, duration) for _ in range(2))
            for process, moment in zip(start_two(), moments):
                time.sleep(max(0.0, started + moment - time.monotonic()))
                process.kill()
                process.wait()
            leftovers += bool(hidden(base))
        assert [process.wait() for process in start_two()] == [0, 0]
    assert reader.incomplete == []
    assert reader.fell == []
    assert leftovers > KILLS / 8  # else they were killed before or after the work
    assert len(os.listdir(base)) == 2
    for name in os.listdir(base):
        verify(base / name)
