"""The published experiments' recipes: their settings, their data, what they refuse."""

import importlib
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from export import command as export_command
from tests.data.made_digits import write_backgrounds, write_digits, write_faces
from tf_mopoe.data import DataError, decode_text
from trainers import evaluate, train
from trainers.config.train_config import make_config
from trainers.errors import RunError, UsageError
from trainers.fitting.train_run import load_training
from trainers.recipes import tfds_data
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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Small files of all kinds, and a folder for TFDS's data sets."""
    folder = tmp_path_factory.mktemp("made")
    write_digits(folder / "mnist.npz", train=120, test=20)
    write_digits(folder / "svhn.npz", train=60, test=20, shape=(32, 32, 3))
    write_backgrounds(folder / "photos")
    write_faces(folder / "celeba", [0] * 8 + [1] * 4 + [2] * 8)
    return folder


def settings(recipe, made):
    own = {
        "polymnist": [
            f"digits={made / 'mnist.npz'}",
            f"backgrounds={made / 'photos'}",
            "validation=20",
            "latent_dim=8",
        ],
        "mnist_svhn_text": [
            f"digits={made / 'mnist.npz'}",
            f"svhn={made / 'svhn.npz'}",
            "validation=20",
            "data_multiplications=2",
        ],
        "celeba": [f"files={made / 'celeba'}", "filters=2", "style_dim=2"],
    }
    size = 4 if recipe == "celeba" else 20
    return [*own[recipe], f"data_dir={made / 'tfds'}", f"batch_size={size}"]


def config_of(recipe, made, **changes):
    values = dict(s.split("=", 1) for s in settings(recipe, made))
    return make_config(get_recipe(recipe).config_class, {**values, **changes})


def run_train(recipe, made, out, *more, epochs=1):
    arguments = [recipe, "--out", str(out), "--epochs", str(epochs), "--set"]
    return train.main([*arguments, *settings(recipe, made), *more])


@pytest.fixture(scope="module")
def runs(made):
    """One epoch of each recipe, trained when it is first asked for."""

    def run(recipe):
        out = made / "runs" / recipe
        if not out.exists():
            assert run_train(recipe, made, out) == 0
        return out

    return run


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


def test_models_are_the_published_ones(made):
    def build(recipe):
        config = make_config(get_recipe(recipe).config_class, {})
        return get_recipe(recipe).build_model(config, 1)

    assert build("polymnist").count_params() == 14_056_975
    triple = build("mnist_svhn_text")
    assert triple.count_params() == 1_411_826
    weights = [likelihood.num_variables for likelihood in triple.likelihoods]
    assert weights == [784, 3072, 8]
    decoder = triple.decoders[0]
    assert decoder(np.zeros([1, 20]))[0, 0, 0, 0] == 0.5  # a sigmoid of nothing


def test_celeba_weighs_as_published():
    recipe = get_recipe("celeba")
    model = recipe.build_model(make_config(recipe.config_class, {"filters": 2}), 1)
    image, text = model.modalities
    assert image.reconstruction_weight == pytest.approx(1 / 3)
    assert text.reconstruction_weight == 16
    assert model.beta_styles == {"image": 2.0, "text": 10.0}
    assert image.style_dim == text.style_dim == 32
    assert image.event_shape == (64, 64, 3)
    assert text.event_shape == (256,)


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_recipe_trains_and_is_drawn(recipe, runs, capsys):
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


def test_a_run_with_text_is_measured_by_every_metric(runs):
    run = runs("mnist_svhn_text")
    assert evaluate.main([str(run), *FEW]) == 0
    report = json.loads((run / "evaluation.json").read_text())
    assert set(evaluate.DEFAULT_METRICS) <= set(report)
    assert set(report["linear_probe"]["joint"]["by_number_given"]) == {"1", "2", "3"}
    table = report["conditional_coherence"]["product"]["by_subset"]
    assert all(set(row) == {"mnist", "svhn", "text"} for row in table.values())
    # Symbols have no order: no intervals; their error is a share, without a ridge.
    intervals = report["calibration"]["by_subset"]["mnist"]
    assert set(intervals) == {"svhn"}
    errors = report["imputation"]["by_subset"]["mnist"]["text"]
    assert 0 <= errors["model"] <= 1
    assert errors["ridge"] is None
    assert (run / "report.html").is_file()


def test_a_run_of_attributes_is_measured_by_average_precision(runs):
    run = runs("celeba")
    metrics = ["conditional_coherence", "joint_coherence", "linear_probe", "figures"]
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
    names = {path.split("/")[-1] for path in report["figures"]["files"]}
    assert "swapped_styles.png" in names
    assert "Smiling" in (run / "report.html").read_text()


def test_paths_are_kept_absolute(made, runs, monkeypatch):
    config = json.loads((runs("polymnist") / "config.json").read_text())
    assert config["digits"] == str(made / "mnist.npz")
    assert config["data_set"].startswith("poly_mnist/backgrounds-")
    monkeypatch.chdir(made)
    recipe = get_recipe("polymnist")
    relative = make_config(recipe.config_class, {"digits": "mnist.npz"})
    assert relative.digits == made / "mnist.npz"


def test_splits_share_no_tuple_and_validation_has_the_rows_asked_for(made):
    recipe = get_recipe("polymnist")
    config = config_of("polymnist", made)
    seen = {}
    for split, count in (("train", 100), ("validation", 20), ("test", 20)):
        data = recipe.load_data(config, split)
        assert len(data.labels) == count
        seen[split] = {image.tobytes() for image in data.modalities["m0"]}
        assert len(seen[split]) == count
    assert not set.intersection(*seen.values())
    assert not seen["train"] & seen["validation"]


def test_rows_that_do_not_fit_in_memory_are_read_from_disk(made):
    recipe = get_recipe("mnist_svhn_text")
    there = recipe.training_rows(config_of("mnist_svhn_text", made))
    bytes_needed = sum(array.nbytes for array in there.values())
    gib = bytes_needed / 2**30
    config = config_of("mnist_svhn_text", made, memory=str(1.01 * gib))
    assert isinstance(recipe.training_rows(config), dict)
    config = config_of("mnist_svhn_text", made, memory=str(0.99 * gib))
    rows = recipe.training_rows(config)
    assert isinstance(rows, tf.data.Dataset)
    for index, row in enumerate(rows.as_numpy_iterator()):
        for name, value in row.items():
            np.testing.assert_array_equal(value, there[name][index])


@pytest.mark.slow
def test_training_from_disk_with_holes_resumes(made, tmp_path):
    more = ["memory=0", "missing=0.3"]
    assert run_train("mnist_svhn_text", made, tmp_path / "a", *more, epochs=2) == 0
    assert run_train("mnist_svhn_text", made, tmp_path / "b", *more) == 0
    assert run_train("mnist_svhn_text", made, tmp_path / "b", *more, epochs=2) == 0
    whole, resumed = (
        RunFolder(tmp_path / name).load_model().get_weights() for name in "ab"
    )
    for first, second in zip(whole, resumed, strict=True):
        # Sums over threads may be formed in another order.
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)


def test_words_move_in_training(made):
    recipe = get_recipe("mnist_svhn_text")
    config = config_of("mnist_svhn_text", made)
    words = recipe.training_rows(config)["text"]
    move = recipe.augment(config)
    moved = move({"text": tf.constant(words)}, tf.constant([0, 1]))["text"]
    before, after = decode_text(words), decode_text(moved)
    assert before != after
    assert [word.strip() for word in before] == [word.strip() for word in after]


def test_views_declared_missing_are_as_many_as_asked_for(made):
    recipe = get_recipe("polymnist")
    config = config_of("polymnist", made, missing="0.4")
    data = load_training(recipe, config)
    batches = data.batches.take(data.steps).as_numpy_iterator()
    flags = np.concatenate(
        [np.stack(list(batch["present"].values())) for batch in batches], axis=1
    )  # [5, 100]
    np.testing.assert_allclose(flags.mean(), 0.6, atol=0.08)  # standard error 0.02
    assert flags.any(axis=0).all()


def test_a_run_goes_on_with_data_elsewhere_and_settings_added_since(
    made, runs, tmp_path, capsys
):
    out = tmp_path / "run"
    shutil.copytree(runs("polymnist"), out)
    path = out / "config.json"
    config = json.loads(path.read_text())
    del config["missing"]
    path.write_text(json.dumps(config))
    more = [s for s in settings("polymnist", made) if not s.startswith("data_dir")]
    arguments = ["polymnist", "--out", str(out), "--epochs", "2", "--set", *more]
    assert train.main([*arguments, f"data_dir={tmp_path / 'elsewhere'}"]) == 0
    assert "Resuming" in capsys.readouterr().out
    assert train.main([*arguments, "missing=0.5"]) == 2
    assert "missing=0.0, not 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "wrong", "said"),
    [
        ("polymnist", "digits=nowhere.npz", "`digits` must be a file that exists"),
        ("polymnist", "backgrounds=nowhere", "`backgrounds` must be a folder that ex"),
        (
            "polymnist",
            "validation=120",
            "`validation` must be less than the 120 images",
        ),
        ("mnist_svhn_text", "validation=200", "`validation` must be less than the 120"),
        ("polymnist", "data_set=poly_mnist/x", "data_set: there is no poly_mnist/x in"),
        ("polymnist", "missing=1", "missing: Input should be less than 1"),
        ("celeba", "files=nowhere", "`files` must be a folder that exists"),
    ],
)
def test_wrong_data_settings_are_one_line_with_code_2_and_leave_nothing(
    recipe, wrong, said, made, tmp_path, capsys
):
    name = wrong.partition("=")[0]
    right = [s for s in settings(recipe, made) if not s.startswith(name + "=")]
    arguments = [recipe, "--out", str(tmp_path / "run"), "--set", *right, wrong]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_damaged_data_is_one_line_with_code_2_and_the_right_settings_then_train(
    made, tmp_path, capsys
):
    broken = tmp_path / "mnist.npz"
    broken.write_bytes((made / "mnist.npz").read_bytes()[:5000])
    out = tmp_path / "run"
    data_dir = f"data_dir={tmp_path / 'tfds'}"
    arguments = ["polymnist", "--out", str(out), "--epochs", "1", "--set"]
    assert train.main([*arguments, f"digits={broken}", data_dir]) == 2
    error = capsys.readouterr().err
    assert "mnist.npz can't be read as an npz file: it is damaged" in error
    assert error.count("\n") == 1
    assert not out.exists()
    assert run_train("polymnist", made, out) == 0


def test_an_error_of_a_builder_is_the_users(made):
    def make(config):
        raise DataError("photo3.png is no image.")

    with pytest.raises(UsageError, match=r"photo3\.png is no image"):
        tfds_data.prepare(config_of("polymnist", made), make)


@pytest.mark.slow
def test_a_run_lives_without_the_files_that_its_data_were_made_of(
    made, tmp_path, capsys
):
    shutil.copy(made / "mnist.npz", tmp_path / "mnist.npz")
    out, data_dir = tmp_path / "run", f"data_dir={tmp_path / 'tfds'}"
    arguments = ["polymnist", "--out", str(out), "--set", "validation=20", data_dir]
    arguments += ["batch_size=50", "latent_dim=4"]
    digits = f"digits={tmp_path / 'mnist.npz'}"
    assert train.main([*arguments, digits, "--epochs", "1"]) == 0
    moved = (tmp_path / "mnist.npz").rename(tmp_path / "moved.npz")
    assert evaluate.main([str(out), "--metrics", "figures"]) == 0
    assert train.main([*arguments, f"digits={moved}", "--epochs", "2"]) == 0
    moved.unlink()
    name = json.loads((out / "config.json").read_text())["data_set"]
    assert train.main([*arguments, f"data_set={name}", "--epochs", "3"]) == 0
    write_digits(moved, train=120, test=20, seed=5)
    capsys.readouterr()
    assert train.main([*arguments, f"digits={moved}", "--epochs", "4"]) == 2
    assert "is a run with data_set=" in capsys.readouterr().err


def test_a_damaged_data_set_is_one_line_that_says_what_to_delete(
    made, tmp_path, capsys
):
    config = config_of("polymnist", made, data_dir=str(tmp_path))
    config = get_recipe("polymnist").resolve(config)
    (tmp_path / config.data_set / "dataset_info.json").write_text("{")
    with pytest.raises(RunError, match="is damaged. Delete it, and run again"):
        get_recipe("polymnist").load_data(config, "test")


def test_a_truncated_data_set_is_one_line_that_says_what_to_delete(made, tmp_path):
    recipe = get_recipe("polymnist")
    config = recipe.resolve(config_of("polymnist", made, data_dir=str(tmp_path)))
    (shard,) = (tmp_path / config.data_set).glob("*-test.tfrecord-*")
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(RunError, match="can't be read; delete its folder"):
        recipe.load_data(config, "test")


def test_who_comes_second_takes_what_the_first_has_made(made, tmp_path, capsys):
    config = config_of("polymnist", made, data_dir=str(tmp_path))
    recipe = get_recipe("polymnist")
    name = recipe.resolve(config).data_set

    class Second:
        data_dir = str(tmp_path / name)

        def download_and_prepare(self):
            raise OSError("the folder is there already")

    tfds_data.build(config, Second())
    assert "Another process" in capsys.readouterr().out
    Second.data_dir = str(tmp_path / "nowhere")
    with pytest.raises(RunError, match="could not be made: the folder is there"):
        tfds_data.build(config, Second())


@pytest.mark.parametrize("recipe", ["polymnist", "mnist_svhn_text"])
def test_no_image_is_in_training_and_validation(recipe, made):
    config = config_of(recipe, made)
    seen = {
        split: get_recipe(recipe).load_data(config, split).modalities
        for split in ("train", "validation")
    }
    if recipe == "mnist_svhn_text":
        for name in ("mnist", "svhn"):
            images = [{x.tobytes() for x in seen[split][name]} for split in seen]
            assert images[1]
            assert not images[0] & images[1]
        return
    masks = {
        split: {
            np.all(image == image[0, 0], axis=-1).tobytes()
            for m in range(5)
            for image in seen[split][f"m{m}"]
        }
        for split in seen
    }
    assert len(masks["validation"]) >= 20
    assert not masks["train"] & masks["validation"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mnist_svhn_text", "polymnist"])
def test_runs_are_exported(recipe, runs, tmp_path):
    assert export_command.main([str(runs(recipe)), str(tmp_path)]) == 0
    assert (tmp_path / recipe / "1" / "saved_model.pb").is_file()


def test_limits_of_what_is_loaded_keep_the_first_rows():
    rows = tf.data.Dataset.from_tensor_slices({"x": np.arange(1000)})
    assert tfds_data.in_memory(rows, 7)["x"].tolist() == list(range(7))
    np.testing.assert_array_equal(tfds_data.in_memory(rows)["x"], np.arange(1000))


def test_recipes_say_what_labels_are_and_what_was_published():
    for recipe in RECIPES.values():
        assert (recipe.num_classes is None) == (recipe.attributes is not None)
        for metric, lines in recipe.published.items():
            assert metric in evaluate.METRICS
            for numbers in lines.values():
                assert list(numbers) == [str(n + 1) for n in range(len(numbers))]
                assert all(0 < value < 1 for value in numbers.values())


def test_no_progress_bars_where_nobody_looks(made, capfd):
    tfds.enable_progress_bar()
    get_recipe("celeba").load_data(config_of("celeba", made), "test")
    assert "it/s" not in capfd.readouterr().err


def test_a_saved_run_loads_without_the_recipe(runs):
    model = keras.saving.load_model(runs("mnist_svhn_text") / "model.keras")
    assert tuple(model.modality_names) == ("mnist", "svhn", "text")
