"""CONTRIBUTING.md names files and functions that exist."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
#: File and names, of every answer to a question.
ANSWERS = [
    (file, re.findall(r"`(\w+)`", names))
    for file, names in re.findall(r"^\| Where .*?\? \| `([^`]+)`: (.*) \|$", TEXT, re.M)
]


def test_files_named_exist():
    names = re.findall(r"`([\w./-]+(?:\.\w+|/))`", TEXT)
    assert len(names) > 20
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_answers_name_a_file_and_what_it_defines():
    assert len(ANSWERS) == 5
    for file, names in ANSWERS:
        defined = rf"^\s*(?:def|class) {names[0]}\b"
        assert re.search(defined, (ROOT / file).read_text(), re.M), (
            f"{names[0]}: {file}"
        )
