"""Every snippet and command of the README runs."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests.data.made_digits import write_backgrounds, write_digits, write_faces
from tests.export.model_store import ModelStore
from tests.export.rest_server import RestServer

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
#: Where snippets expect TensorFlow Serving.
SERVER = "http://localhost:8501"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.M | re.S)
MODULES = {
    "mopoe-train": "trainers.train",
    "mopoe-tune": "trainers.tune",
    "mopoe-evaluate": "trainers.evaluate",
    "mopoe-export": "export.command",
}


def run(words, folder):
    if words[0] == "make":
        # Each make target is this suite or a slow test of it; here: that it exists.
        command = ["make", "--dry-run", *words[1:]]
        folder = ROOT
    elif words[0] == "python":
        command = [sys.executable, str(ROOT / words[1]), *words[2:]]
    else:
        command = [sys.executable, "-m", MODULES[words[0]], *words[1:]]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},  # where TFDS keeps data sets
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def write_users_files(folder):
    """What the commands name: more rows than the recipes keep for validation."""
    write_digits(folder / "mnist.npz", train=5300, test=20)
    write_digits(folder / "svhn.npz", train=300, test=20, shape=(32, 32, 3))
    write_backgrounds(folder / "photos")
    write_faces(folder / "celeba", [0] * 4 + [1] * 2 + [2] * 8)


def test_blocks_are_of_a_kind_that_this_test_runs():
    assert {kind for kind, _ in BLOCKS} == {"python", "console"}


def test_snippets_and_commands_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_users_files(tmp_path)
    namespace = {}
    for kind, text in BLOCKS:
        if SERVER in text:
            store = ModelStore()
            store.load_all(tmp_path / "serving")
            with RestServer(store) as server:
                code = text.replace(SERVER, server.address)
                exec(compile(code, "README.md", "exec"), namespace)
            continue
        if kind == "python":
            exec(compile(text, "README.md", "exec"), namespace)
            continue
        for line in text.splitlines():
            result = run(shlex.split(line), tmp_path)
            assert result.returncode == 0, f"{line}\n{result.stderr[-2000:]}"
    assert namespace["model"].optimizer.iterations > 0
    assert set(namespace["answer"]) == {"m0", "m1", "m2", "m3", "m4"}
    assert (tmp_path / "runs/quick/evaluation.json").is_file()
    for name in ("polymnist", "mst", "celeba"):
        assert (tmp_path / "runs" / name / "model.keras").is_file()
    assert next(iter(namespace["batches"]))["m1"].shape == (64, 28, 28, 3)
    for name in ("patient", "image", "scan", "cell"):
        assert namespace[f"{name}_model"].optimizer.iterations > 0


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_linked_files_exist(name):
    assert (ROOT / name).read_text()
