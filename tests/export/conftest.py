"""Hypothesis's settings, and the one version that a session publishes."""

import contextlib
import io
import pathlib
from typing import NamedTuple

import pytest
from hypothesis import settings

# The same examples in every run, however slow the machine.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


class Published(NamedTuple):
    """What `mopoe-export` wrote and printed.

    Attributes:
      version: Folder of the version.
      output: Output of the command.
    """

    version: pathlib.Path
    output: str


@pytest.fixture(scope="session")
def served_models():
    """Models that the tests publish and query, by name."""
    from tests.export.client.served_models import make_served_models

    return make_served_models()


@pytest.fixture(scope="session")
def published(served_models, tmp_path_factory):
    """Version 1 of the model "views", published by the command from a run's folder."""
    from export import command
    from tests.export.client.served_models import NUM_SAMPLES

    run, serving = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("serving")
    served_models["views"].model.save(run / "model.keras")
    arguments = [str(run), str(serving), "--num-samples", str(NUM_SAMPLES)]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert command.main(arguments) == 0
    return Published(serving / "views" / "1", output.getvalue())


@pytest.fixture(scope="session")
def session(published):
    from export.verification.session import ServingSession

    return ServingSession(published.version)
