"""Fixtures that the tests of several packages share."""

import pytest


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A run folder of a tiny PolyDigits model, trained for one epoch."""
    from trainers import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    settings = ["pairings=1", "width=0.25", "latent_dim=8", "batch_size=256"]
    settings += ["evaluate_every=1"]
    arguments = ["--out", str(out), "--epochs", "1", "--set", *settings]
    assert train.main(["polydigits", *arguments]) == 0
    return out
