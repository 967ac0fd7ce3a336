"""Examples in the docstrings of `export` give what they show."""

import doctest
import importlib
import pkgutil

import pytest

import export
from export import client

MODULES = [
    module.name
    for module in pkgutil.walk_packages(export.__path__, "export.")
    if not module.name.startswith("export.portable.")
    or module.name.endswith(("networks", "writing"))
]
#: Besides the names of `export.client`.
PUBLIC = [
    "command.main",
    "errors.ExportError",
    "errors.UsageError",
    "portable.networks.networks_of",
    "portable.writing.write_portable",
    "publication.publish.publish",
    "publication.publish.write_saved_model",
    "publication.server_config.write_server_files",
    "publication.versions.locked",
    "publication.versions.release",
    "publication.versions.staged",
    "signatures.loading.load_run",
    "signatures.row_seeds.row_seeds",
    "signatures.serving_model.serving_model",
    "signatures.signatures.make_signatures",
    "signatures.whole_numbers.check_whole",
    "verification.session.ServingSession",
    "verification.verify.verify",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name, capsys):
    if name.endswith("grpc_client"):
        pytest.importorskip("tensorflow_serving.apis")
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0, capsys.readouterr().out


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    examples = [
        test
        for name in MODULES
        if not name.endswith("grpc_client")
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(examples) >= 12


@pytest.mark.parametrize("path", PUBLIC)
def test_public_names_have_an_example(path):
    module, _, name = path.rpartition(".")
    value = getattr(importlib.import_module(f"export.{module}"), name)
    assert "Example:" in value.__doc__


@pytest.mark.parametrize("name", client.__all__)
def test_names_of_the_client_have_an_example(name):
    if "Grpc" in name:
        pytest.importorskip("tensorflow_serving.apis")
    assert "Example:" in getattr(client, name).__doc__


@pytest.mark.parametrize(
    "name", ["reconstruct", "encode", "impute", "sample", "log_likelihood", "ready"]
)
def test_methods_of_the_client_have_an_example(name):
    assert "Example:" in getattr(client.RestClient, name).__doc__
