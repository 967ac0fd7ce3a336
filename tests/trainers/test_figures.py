"""Figures of models with images, texts and styles."""

import numpy as np
import pytest

from tf_mopoe import Modality, MoPoEVAE
from tf_mopoe.data import ALPHABET
from trainers.evaluation.figures import draw_figures, figure_pixels, save_figure


@pytest.mark.integration
def test_all_figures_of_a_model_with_styles_and_text_are_drawn(tmp_path):
    image = Modality("image", (8, 8, 1), style_dim=2)
    text = Modality(
        "text", (4,), likelihood="integer_categorical", num_classes=len(ALPHABET)
    )
    model = MoPoEVAE([image, text], latent_dim=2)
    random = np.random.default_rng(0)
    data = {
        "image": random.random((9, 8, 8, 1), np.float32),
        "text": random.integers(0, len(ALPHABET), (9, 4)),
    }
    figures = draw_figures(model, data)
    names = ["reconstructions", "imputation", "samples", "traversal", "swapped_styles"]
    assert list(figures) == names
    for name, figure in figures.items():
        assert np.ptp(figure_pixels(figure)[..., :3]) > 100, name
        path = save_figure(figure, tmp_path / f"{name}.png")
        assert path.read_bytes().startswith(b"\x89PNG")
