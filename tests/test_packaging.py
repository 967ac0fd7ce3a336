"""The distribution holds what it should."""

import pathlib
import re
import runpy
from unittest import mock

import setuptools

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings this one
    import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]


def test_setup_lists_every_package_and_no_other():
    with mock.patch.object(setuptools, "setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    found = setuptools.find_packages(
        str(ROOT), include=["tf_mopoe*", "trainers*", "export*"]
    )
    assert sorted(setup.call_args.kwargs["packages"]) == sorted(found)


def test_every_dependency_is_pinned_in_the_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = set(
        re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    )
    names = {re.match(r"[\w.-]+", text)[0] for text in project["dependencies"]}
    assert names <= pinned
