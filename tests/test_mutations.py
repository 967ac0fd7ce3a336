"""Mutations name source text and tests that exist."""

import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def test_source_texts_occur_once_and_tests_exist():
    spec = importlib.util.spec_from_file_location(
        "mutations", ROOT / "tests/mutations.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.MUTATIONS) >= 12
    for mutation in module.MUTATIONS:
        text = (ROOT / mutation.file).read_text()
        assert text.count(mutation.source) == 1, mutation.name
        assert mutation.replacement not in text, mutation.name
        for test in mutation.tests:
            file, _, function = test.partition("::")
            function = function.partition("[")[0]
            assert f"def {function}" in (ROOT / file).read_text(), test
