"""Who may import whom, and what library code must not contain."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
#: A room may import itself and rooms of a lower floor.
FLOORS = {
    "checks": -1,
    "saved_classes": -1,
    "version": 0,
    "modality": 0,
    "subsets": 0,
    "distributions": 1,
    "data": 1,
    "layers": 2,
    "nets": 2,
    "objectives": 2,
    "models": 3,
    "metrics": 4,
}
FILES = [
    path.relative_to(ROOT)
    for package in ("tf_mopoe", "trainers", "export")
    for path in sorted((ROOT / package).rglob("*.py"))
]


def imported_modules(path):
    """Every dotted name that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(dotted):
    parts = dotted.split(".")
    return parts[1] if parts[0] == "tf_mopoe" and len(parts) > 1 else None


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down_the_floors_only(path):
    package = path.parts[0]
    for name in imported_modules(path):
        top = name.split(".")[0]
        if package == "tf_mopoe":
            assert top not in ("trainers", "export"), f"imports {name}"
            own, other = path.parts[1].removesuffix(".py"), room_of(name)
            if own != "__init__" and other in FLOORS and other != own:
                assert FLOORS[other] < FLOORS[own], f"{own} imports {other}"
        elif package == "trainers":
            assert top != "export", f"imports {name}"
        else:
            assert top != "trainers", f"imports {name}"


def test_every_room_has_a_floor():
    rooms = {
        path.parts[1].removesuffix(".py")
        for path in FILES
        if path.parts[0] == "tf_mopoe"
    }
    assert rooms - {"__init__"} == set(FLOORS)


def test_distributions_do_not_import_keras():
    for path in FILES:
        if path.parts[:2] == ("tf_mopoe", "distributions"):
            assert not [m for m in imported_modules(path) if m.split(".")[0] == "keras"]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short_and_hold_no_bare_except_or_assert(path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
        if path.parts[0] == "tf_mopoe" and isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") != "print", f"print, line {node.lineno}"


def test_wrong_settings_are_answered_without_importing_tensorflow():
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
