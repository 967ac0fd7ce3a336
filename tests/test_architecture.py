"""What ruff and import-linter can't check: lengths of files, and lazy imports."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("tf_mopoe", "trainers", "export")
MAX_LINES = 350
#: Files that may be longer.
MAX_LINES_OF = {"tf_mopoe/models/multimodal_vae.py": 500}


def test_files_are_short():
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(MAX_LINES_OF) <= set(lines)
    assert not {
        name: count
        for name, count in lines.items()
        if count > MAX_LINES_OF.get(name, MAX_LINES)
    }


def test_wrong_settings_are_reported_without_importing_tensorflow():
    code = (
        "import sys, trainers.train, trainers.evaluate, export.command\n"
        "trainers.train.main(['polydigits', '--out', 'x', '--set', 'beta=-1'])\n"
        "print('tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "False"
    assert "beta" in result.stderr
