"""Every snippet and command of the README runs.

The integration test runs the snippets and the commands that they need, the latter with
smaller settings and in this process. The slow one runs everything as it is written.
"""

import importlib
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

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings this one
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
#: Command to "module:function".
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
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
#: Sections that only the slow test runs.
LONG_SECTIONS = ("The paper's data sets", "Speed")
#: What marks commands that only the slow test runs; other tests do the same.
LONG_COMMANDS = (
    *("mopoe-tune", "--local-workers"),
    *("--image-bytes", "--format", "--verify"),
)
#: How commands begin, and what makes them smaller.
SMALLER = {
    "mopoe-train polydigits --out": ["width=0.25", "batch_size=256"],
    "mopoe-evaluate": ["--rows", "10", "--metrics", "log_likelihood"],
    "mopoe-export model.keras serving": ["--num-samples", "2"],
    "mopoe-export runs/quick serving": ["--num-samples", "2"],
}


def command_lines(skipped=()):
    return [
        line
        for heading, kind, text in BLOCKS
        if kind == "console" and heading not in skipped
        for line in text.splitlines()
    ]


def module_of(command):
    return importlib.import_module(SCRIPTS[command].split(":")[0])


def run_as_users_do(line, folder):
    """Runs a command line in a process of its own."""
    words = shlex.split(line)
    if words[0] == "python":
        command = [sys.executable, str(ROOT / words[1]), *words[2:]]
    else:
        command = [sys.executable, "-m", SCRIPTS[words[0]].split(":")[0], *words[1:]]
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},  # where TFDS keeps data sets
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, f"{line}\n{result.stderr[-2000:]}"


def run_smaller(line, folder):
    """Runs a command line in this process with smaller settings, or skips it."""
    words = shlex.split(line)
    if words[0] == "python" or any(mark in words for mark in LONG_COMMANDS):
        return
    more = [more for start, more in SMALLER.items() if line.startswith(start)]
    assert module_of(words[0]).main([*words[1:], *sum(more, [])]) == 0, line


def check_server_command(line, folder):
    """There is no Docker here: checks that what the server would read is there."""
    words = shlex.split(line)
    mounted, inside = words[words.index("-v") + 1].split(":")
    config = words[-1].removeprefix(f"--model_config_file={inside}/")
    assert (folder / mounted / config).is_file()


def run_blocks(folder, run, skipped=()):
    """Runs the blocks of all sections but some; returns the snippets' names."""
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
                if line.startswith("docker "):
                    check_server_command(line, folder)
                elif not line.startswith("make "):  # targets are run by other tests
                    run(line, folder)
    return namespace


def test_blocks_are_of_a_kind_that_these_tests_run():
    assert {kind for _, kind, _ in BLOCKS} == {"python", "console"}
    assert {heading for heading, _, _ in BLOCKS} > set(LONG_SECTIONS)
    assert README.count("```") == 2 * len(BLOCKS)
    for word in (*LONG_COMMANDS, *SMALLER):
        assert any(word in line for line in command_lines()), f"nothing has {word}"


def test_commands_exist_and_take_the_arguments_given():
    for line in command_lines():
        words = shlex.split(line)
        if words[0] == "make":
            dry_run = ["make", "--dry-run", *words[1:]]
            subprocess.run(dry_run, cwd=ROOT, capture_output=True, check=True)
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), line
        elif words[0] != "docker":
            module_of(words[0]).make_parser().parse_args(words[1:])


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#]+)", README)
    files = [link for link in links if not link.startswith("http")]
    assert "CONTRIBUTING.md" in files
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.integration
def test_snippets_run_in_order_and_with_the_commands_they_need(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    namespace = run_blocks(tmp_path, run_smaller, skipped=LONG_SECTIONS)
    assert namespace["model"].optimizer.iterations > 0
    assert set(namespace["answer"]) == {"m0", "m1", "m2", "m3", "m4"}
    assert (tmp_path / "runs/quick/evaluation.json").is_file()
    for name in ("patient", "image", "scan", "cell"):
        assert namespace[f"{name}_model"].optimizer.iterations > 0


@pytest.mark.slow
def test_all_snippets_and_commands_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # More rows than the recipes keep for validation.
    write_digits(tmp_path / "mnist.npz", train=5300, test=20)
    write_digits(tmp_path / "svhn.npz", train=300, test=20, shape=(32, 32, 3))
    write_backgrounds(tmp_path / "photos")
    write_faces(tmp_path / "celeba", [0] * 4 + [1] * 2 + [2] * 8)
    namespace = run_blocks(tmp_path, run_as_users_do)
    for name in ("polymnist", "mst", "celeba"):
        assert (tmp_path / "runs" / name / "model.keras").is_file()
    assert next(iter(namespace["batches"]))["m1"].shape == (64, 28, 28, 3)
