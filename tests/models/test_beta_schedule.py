"""KL warm-up: beta as a schedule over training steps."""

import keras
import numpy as np
import pytest

from tests.tiny_models import train_logs
from tf_mopoe import Modality, MoPoEVAE

SCHEDULE = keras.optimizers.schedules.PolynomialDecay(0.1, 4, 0.9)  # 0.1 to 0.9
DATA = {"a": np.ones([8, 3], "float32")}


@pytest.fixture(scope="module")
def model():
    modalities = [
        Modality(
            "a",
            (3,),
            encoder=keras.layers.Dense(4),
            decoder=keras.layers.Dense(3),
        )
    ]
    model = MoPoEVAE(modalities, latent_dim=2, beta=SCHEDULE, seed=0)
    model.compile("sgd")
    return model


@pytest.mark.integration
def test_beta_follows_the_schedule_and_stays_at_its_end(model, tmp_path):
    logs = [train_logs(model, DATA) for _ in range(6)]
    betas = [float(log["beta"]) for log in logs]
    np.testing.assert_allclose(betas, [0.1, 0.3, 0.5, 0.7, 0.9, 0.9], rtol=1e-6)
    for log in logs:
        expected = log["beta"] * log["kl_bound"] - log["a_log_likelihood"]
        np.testing.assert_allclose(log["loss"], expected, rtol=1e-5)
    assert model.evaluate(DATA, verbose=0, return_dict=True)["beta"] == pytest.approx(
        0.9
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.beta.get_config() == SCHEDULE.get_config()
    log = train_logs(loaded, DATA)
    assert float(log["beta"]) == pytest.approx(0.9)
