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
#: (heading, kind, text) of every block.
BLOCKS = [
    (heading, kind, text)
    for heading, section in re.findall(
        r"^## (.*?)\n(.*?)(?=^## |\Z)", README, re.M | re.S
    )
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", section, re.M | re.S)
]
#: Sections whose commands take minutes: a slow test runs them.
LONG = ("The paper's data sets", "Speed")
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
    elif words[0] == "docker":
        # There is no Docker here: what the server would read must be there.
        mounted, inside = words[words.index("-v") + 1].split(":")
        config = words[-1].removeprefix(f"--model_config_file={inside}/")
        assert (folder / mounted / config).is_file()
        command = ["true"]
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
    assert {kind for _, kind, _ in BLOCKS} == {"python", "console"}
    assert {heading for heading, _, _ in BLOCKS} > set(LONG)
    assert README.count("```") == 2 * len(BLOCKS)


def run_blocks(folder, skipped=()):
    """Runs the blocks of all sections but some; returns the snippets' names."""
    write_users_files(folder)
    namespace = {}
    for heading, kind, text in BLOCKS:
        if heading in skipped:
            continue
        if SERVER in text:
            store = ModelStore()
            store.load_all(folder / "serving")
            with RestServer(store) as server:
                code = text.replace(SERVER, server.address)
                exec(compile(code, "README.md", "exec"), namespace)
        elif kind == "python":
            exec(compile(text, "README.md", "exec"), namespace)
        else:
            for line in text.splitlines():
                result = run(shlex.split(line), folder)
                assert result.returncode == 0, f"{line}\n{result.stderr[-2000:]}"
    return namespace


def test_snippets_and_commands_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = run_blocks(tmp_path, skipped=LONG)
    assert namespace["model"].optimizer.iterations > 0
    assert set(namespace["answer"]) == {"m0", "m1", "m2", "m3", "m4"}
    assert (tmp_path / "runs/quick/evaluation.json").is_file()
    for name in ("patient", "image", "scan", "cell"):
        assert namespace[f"{name}_model"].optimizer.iterations > 0


@pytest.mark.slow
def test_the_long_ones_run_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = run_blocks(tmp_path)
    for name in ("polymnist", "mst", "celeba"):
        assert (tmp_path / "runs" / name / "model.keras").is_file()
    assert next(iter(namespace["batches"]))["m1"].shape == (64, 28, 28, 3)


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_linked_files_exist(name):
    assert (ROOT / name).read_text()
