"""Test set-up: quiet TensorFlow, the longest files first."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


#: Files whose integration tests take the longest. Where a file is given to one process,
#: these come first, so that no process is left alone with one of them at the end.
LONGEST = (
    "trainers/test_evaluate.py",
    "models/test_replicas.py",
    "test_readme.py",
    "models/test_saving_formats.py",
    "trainers/test_resumption.py",
    "export/test_signatures.py",
    "conformance/test_conformance.py",
)


def pytest_collection_modifyitems(items):
    """Puts the longest files first."""

    def place(item):
        file = item.nodeid.partition("::")[0]
        for number, name in enumerate(LONGEST):
            if file.endswith(name):
                return number
        return len(LONGEST)

    items.sort(key=place)
