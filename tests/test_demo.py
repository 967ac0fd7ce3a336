"""The demo in a fresh clone and a fresh virtual environment."""

import json
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_make_demo_trains_evaluates_exports_and_answers(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    first = subprocess.run(
        ["make", "demo"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert first.returncode == 0, first.stderr[-3000:]
    assert (clone / "serving/polydigits/1/saved_model.pb").is_file()
    report = json.loads((clone / "runs/demo/evaluation.json").read_text())
    coherence = report["conditional_coherence"]["product"]["by_number_given"]
    assert coherence["1"] > 0.85
    assert coherence["4"] > 0.95
    for path in report["figures"]["files"]:
        assert (clone / "runs/demo" / path).is_file()
        assert path in first.stdout
    again = subprocess.run(
        ["make", "demo"], cwd=clone, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("exists already") == 2
    assert not (clone / "serving/polydigits/2").exists()
