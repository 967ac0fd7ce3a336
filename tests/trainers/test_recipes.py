"""The published experiments' recipes: settings, models, training, evaluation."""

import importlib
import json

import keras
import numpy as np
import pytest
from PIL import Image

from export import command as export_command
from tests.trainers.recipe_files import config_of
from trainers import evaluate
from trainers.config.train_config import make_config
from trainers.errors import UsageError
from trainers.recipes.registry import RECIPES, get_recipe
from trainers.runs.run_folder import RunFolder

PUBLISHED = {
    "polymnist": {
        "epochs": 300,
        "batch_size": 256,
        "learning_rate": 5e-4,
        "latent_dim": 512,
        "beta": 2.5,
        "likelihood_scale": 0.75,
    },
    "mnist_svhn_text": {
        "epochs": 200,
        "batch_size": 256,
        "learning_rate": 1e-3,
        "latent_dim": 20,
        "beta": 2.5,
        "data_multiplications": 20,
        "likelihood_scale": 0.75,
    },
    "celeba": {
        "epochs": 250,
        "batch_size": 256,
        "learning_rate": 5e-4,
        "latent_dim": 20,
        "beta": 2.5,
        "style_dim": 32,
        "beta_style": 2.0,
        "likelihood_scale": 0.75,
    },
}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_settings_are_the_published_ones(recipe):
    config = make_config(get_recipe(recipe).config_class, {})
    assert {name: getattr(config, name) for name in PUBLISHED[recipe]} == (
        PUBLISHED[recipe]
    )
    assert config.schedule == "constant"
    assert config.missing == 0


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_header_says_source_expectation_time_and_command(recipe):
    header = importlib.import_module(f"trainers.recipes.{recipe}").__doc__
    for part in (
        "Source: Sutter et al.",
        "Expected",
        "epoch",
        f"mopoe-train {recipe} ",
    ):
        assert part in header
    assert "measured" in header


@pytest.mark.integration
def test_models_are_the_published_ones(made):
    def build(recipe):
        config = make_config(get_recipe(recipe).config_class, {})
        return get_recipe(recipe).build_model(config, 1)

    assert build("polymnist").count_params() == 14_056_975
    triple = build("mnist_svhn_text")
    assert triple.count_params() == 1_411_826
    weights = [likelihood.num_variables for likelihood in triple.likelihoods]
    assert weights == [784, 3072, 8]
    decoder = triple.networks.decoders["mnist"]
    assert decoder(np.zeros([1, 20]))[0, 0, 0, 0] == 0.5  # a sigmoid of nothing


@pytest.mark.integration
def test_celeba_has_the_published_weights():
    recipe = get_recipe("celeba")
    model = recipe.build_model(make_config(recipe.config_class, {"filters": 2}), 1)
    image, text = model.modalities
    assert image.reconstruction_weight == pytest.approx(1 / 3)
    assert text.reconstruction_weight == 16
    assert model.loss_weights().styles == {"image": 2.0, "text": 10.0}
    assert image.style_dim == text.style_dim == 32
    assert image.event_shape == (64, 64, 3)
    assert text.event_shape == (256,)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param("polymnist", marks=pytest.mark.slow),
        pytest.param("mnist_svhn_text", marks=pytest.mark.integration),
        pytest.param("celeba", marks=pytest.mark.slow),
    ],
)
def test_recipe_trains_and_its_figures_are_drawn(recipe, runs, capsys):
    out = runs(recipe)
    history = json.loads((out / "history.json").read_text())
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    model = RunFolder(out).load_model()
    assert int(model.optimizer.iterations) >= 2
    assert evaluate.main([str(out), "--metrics", "figures"]) == 0
    report = json.loads((out / "evaluation.json").read_text())
    assert report["split"] == "test"
    for path in report["figures"]["files"]:
        assert np.ptp(np.asarray(Image.open(out / path).convert("L"))) > 100
    expected = 5 if recipe == "celeba" else 4  # with swapped styles
    assert capsys.readouterr().out.count("figure  ") == expected


FEW = ["--rows", "10", "--num-samples", "10"]


@pytest.mark.slow
def test_run_with_text_is_measured_by_every_metric(runs, quick_measures):
    run = runs("mnist_svhn_text")
    assert evaluate.main([str(run), *FEW]) == 0
    report = json.loads((run / "evaluation.json").read_text())
    assert set(evaluate.DEFAULT_METRICS) <= set(report)
    assert set(report["linear_probe"]["joint"]["by_number_given"]) == {"1", "2", "3"}


@pytest.mark.slow
def test_text_has_coherence_and_errors_but_no_intervals(runs, quick_measures):
    run = runs("mnist_svhn_text")
    metrics = ["conditional_coherence", "imputation", "calibration"]
    assert evaluate.main([str(run), "--rows", "10", "--metrics", *metrics]) == 0
    report = json.loads((run / "evaluation.json").read_text())
    table = report["conditional_coherence"]["product"]["by_subset"]
    assert all(set(row) == {"mnist", "svhn", "text"} for row in table.values())
    # Symbols have no order: no intervals; their error is a share, without a ridge.
    intervals = report["calibration"]["by_subset"]["mnist"]
    assert set(intervals) == {"svhn"}
    errors = report["imputation"]["by_subset"]["mnist"]["text"]
    assert 0 <= errors["model"] <= 1
    assert errors["ridge"] is None
    assert (run / "report.html").is_file()


@pytest.mark.slow
def test_a_run_of_attributes_is_measured_by_average_precision(runs, quick_measures):
    run = runs("celeba")
    metrics = ["conditional_coherence", "joint_coherence", "linear_probe"]
    assert evaluate.main([str(run), *FEW, "--metrics", *metrics]) == 0
    report = json.loads((run / "evaluation.json").read_text())
    coherence = report["conditional_coherence"]["product"]
    by_attribute = coherence["by_attribute"]["text"]["image"]
    assert len(by_attribute) == 40
    defined = [value for value in by_attribute.values() if value is not None]
    assert all(0 <= value <= 1 for value in defined)
    np.testing.assert_allclose(
        coherence["by_subset"]["text"]["image"], np.mean(defined), rtol=1e-6
    )
    assert 0 <= report["joint_coherence"]["prior"] <= 1
    assert "Smiling" in (run / "report.html").read_text()


@pytest.mark.integration
def test_run_resumes_with_another_data_dir_and_settings_added_later(made, tmp_path):
    run = RunFolder(tmp_path / "run")
    resolve = get_recipe("polymnist").resolve
    run.prepare("polymnist", resolve(config_of("polymnist", made)))
    (run.checkpoints.path / "step-00000001").mkdir()
    content = json.loads(run.config_file.read_text())
    del content["missing"]
    run.config_file.write_text(json.dumps(content))
    config = config_of("polymnist", made, data_dir=str(tmp_path / "elsewhere"))
    config = resolve(config)
    run.prepare("polymnist", config)
    with pytest.raises(UsageError, match=r"missing=0\.0, not 0\.5"):
        run.prepare("polymnist", config.model_copy(update={"missing": 0.5}))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mnist_svhn_text", "polymnist"])
def test_runs_are_exported(recipe, runs, tmp_path):
    assert export_command.main([str(runs(recipe)), str(tmp_path)]) == 0
    assert (tmp_path / recipe / "1" / "saved_model.pb").is_file()


def test_recipes_say_what_labels_are_and_what_was_published():
    for recipe in RECIPES.values():
        assert (recipe.num_classes is None) == (recipe.attributes is not None)
        for metric, lines in recipe.published.items():
            assert metric in evaluate.MEASURES
            for numbers in lines.values():
                assert list(numbers) == [str(n + 1) for n in range(len(numbers))]
                assert all(0 < value < 1 for value in numbers.values())


@pytest.mark.integration
def test_a_saved_run_loads_without_the_recipe(runs):
    model = keras.saving.load_model(runs("mnist_svhn_text") / "model.keras")
    assert tuple(model.modality_names) == ("mnist", "svhn", "text")
