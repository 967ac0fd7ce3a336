"""Data sets of recipes: what they hold, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.data.made_digits import write_digits
from tests.trainers.recipe_files import config_of, run_train, settings
from tf_mopoe.data import DataError, decode_text
from trainers import evaluate, train
from trainers.config.train_config import make_config
from trainers.errors import RunError, UsageError
from trainers.fitting.train_run import load_training
from trainers.recipes import tfds_data
from trainers.recipes.registry import get_recipe
from trainers.runs.run_folder import RunFolder
from trainers.runs.run_settings import to_settings


@pytest.mark.integration
def test_paths_are_kept_absolute(made, monkeypatch):
    config = get_recipe("polymnist").resolve(config_of("polymnist", made))
    config = to_settings("polymnist", config)
    assert config["digits"] == str(made / "mnist.npz")
    assert config["data_set"].startswith("poly_mnist/backgrounds-")
    monkeypatch.chdir(made)
    recipe = get_recipe("polymnist")
    relative = make_config(recipe.config_class, {"digits": "mnist.npz"})
    assert relative.digits == made / "mnist.npz"


@pytest.mark.integration
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


@pytest.mark.integration
def test_rows_that_do_not_fit_in_memory_are_read_from_disk(made):
    recipe = get_recipe("mnist_svhn_text")
    in_memory = recipe.training_rows(config_of("mnist_svhn_text", made))
    bytes_needed = sum(array.nbytes for array in in_memory.values())
    gib = bytes_needed / 2**30
    config = config_of("mnist_svhn_text", made, memory=str(1.01 * gib))
    assert isinstance(recipe.training_rows(config), dict)
    config = config_of("mnist_svhn_text", made, memory=str(0.99 * gib))
    rows = recipe.training_rows(config)
    assert isinstance(rows, tf.data.Dataset)
    for index, row in enumerate(rows.as_numpy_iterator()):
        for name, value in row.items():
            np.testing.assert_array_equal(value, in_memory[name][index])


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


@pytest.mark.integration
def test_words_are_moved_in_training(made):
    recipe = get_recipe("mnist_svhn_text")
    config = config_of("mnist_svhn_text", made)
    words = recipe.training_rows(config)["text"]
    move = recipe.augment(config)
    moved = move({"text": tf.constant(words)}, tf.constant([0, 1]))["text"]
    before, after = decode_text(words), decode_text(moved)
    assert before != after
    assert [word.strip() for word in before] == [word.strip() for word in after]


@pytest.mark.integration
def test_fraction_of_missing_modalities_is_the_setting(made):
    recipe = get_recipe("polymnist")
    config = config_of("polymnist", made, missing="0.4")
    data = load_training(recipe, config)
    batches = data.batches.take(data.steps).as_numpy_iterator()
    flags = np.concatenate(
        [np.stack(list(batch["present"].values())) for batch in batches], axis=1
    )  # [5, 100]
    np.testing.assert_allclose(flags.mean(), 0.6, atol=0.08)  # standard error 0.02
    assert flags.any(axis=0).all()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("recipe", "wrong", "message"),
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
    recipe, wrong, message, made, tmp_path, capsys
):
    name = wrong.partition("=")[0]
    right = [s for s in settings(recipe, made) if not s.startswith(name + "=")]
    arguments = [recipe, "--out", str(tmp_path / "run"), "--set", *right, wrong]
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.integration
def test_damaged_data_is_one_line_with_code_2_and_right_settings_then_make_the_data(
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
    config = config_of("polymnist", made, data_dir=str(tmp_path / "tfds"))
    assert get_recipe("polymnist").resolve(config).data_set


@pytest.mark.integration
def test_data_error_of_a_builder_is_a_usage_error(made):
    def make(config):
        raise DataError("photo3.png is no image.")

    with pytest.raises(UsageError, match=r"photo3\.png is no image"):
        tfds_data.prepare(config_of("polymnist", made), make)


@pytest.mark.slow
def test_run_resumes_without_the_sources_of_its_data_set(made, tmp_path, capsys):
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


@pytest.mark.integration
def test_a_damaged_data_set_is_one_line_that_says_what_to_delete(
    made, tmp_path, capsys
):
    config = config_of("polymnist", made, data_dir=str(tmp_path))
    config = get_recipe("polymnist").resolve(config)
    (tmp_path / config.data_set / "dataset_info.json").write_text("{")
    with pytest.raises(RunError, match="is damaged. Delete it, and run again"):
        get_recipe("polymnist").load_data(config, "test")


@pytest.mark.integration
def test_a_truncated_data_set_is_one_line_that_says_what_to_delete(made, tmp_path):
    recipe = get_recipe("polymnist")
    config = recipe.resolve(config_of("polymnist", made, data_dir=str(tmp_path)))
    (shard,) = (tmp_path / config.data_set).glob("*-test.tfrecord-*")
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(RunError, match="can't be read; delete its folder"):
        recipe.load_data(config, "test")


@pytest.mark.integration
def test_second_process_reuses_the_data_set_of_the_first(made, tmp_path, capsys):
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


@pytest.mark.integration
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


def test_limit_of_loaded_rows_keeps_the_first_rows():
    rows = tf.data.Dataset.from_tensor_slices({"x": np.arange(1000)})
    assert tfds_data.in_memory(rows, 7)["x"].tolist() == list(range(7))
    np.testing.assert_array_equal(tfds_data.in_memory(rows)["x"], np.arange(1000))


@pytest.mark.integration
def test_no_progress_bars_without_a_terminal(made, capfd):
    tfds.enable_progress_bar()
    get_recipe("celeba").load_data(config_of("celeba", made), "test")
    assert "it/s" not in capfd.readouterr().err
