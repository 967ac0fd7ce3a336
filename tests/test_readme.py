"""Every snippet and command of the README runs."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.M | re.S)
MODULES = {
    "mopoe-train": "trainers.train",
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
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


def test_blocks_are_of_a_kind_that_this_test_runs():
    assert {kind for kind, _ in BLOCKS} == {"python", "console"}


def test_snippets_and_commands_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "README.md", "exec"), namespace)
            continue
        for line in text.splitlines():
            result = run(shlex.split(line), tmp_path)
            assert result.returncode == 0, f"{line}\n{result.stderr[-2000:]}"
    assert namespace["model"].optimizer.iterations > 0
    assert set(namespace["answer"]) == {"m0", "m1", "m2", "m3", "m4"}
    assert (tmp_path / "runs/quick/evaluation.json").is_file()


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_linked_files_exist(name):
    assert (ROOT / name).read_text()
