"""The benchmarks run, and their results hold."""

import json
import os
import pathlib
import runpy

import numpy as np
import pytest
import tensorflow as tf

from trainers import train

ROOT = pathlib.Path(__file__).parents[1]


def load(name):
    """A benchmark's functions and constants, by name."""
    return runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))


@pytest.fixture(scope="module")
def six_views():
    return load("six_views")


@pytest.fixture
def six_views_path(six_views):
    folder = pathlib.Path(os.environ.get("TF_MOPOE_DATA", ROOT / "../shared/data"))
    path = folder / "mfeat.npz"
    if not path.is_file():
        pytest.skip(f"no {path}: set TF_MOPOE_DATA to the folder of mfeat.npz")
    return path


def code_lines(source):
    """Lines of a function's body that are neither empty nor its docstring."""
    body = source.split('"""')[2]
    return [line for line in body.splitlines() if line.strip()]


def test_user_code_of_six_views_is_under_25_lines():
    text = (ROOT / "benchmarks/six_views.py").read_text()
    source = text[text.index("def fit_and_impute") :].split("\n\n\n")[0]
    assert 10 < len(code_lines(source)) < 25


def test_six_views_without_data_says_so_in_one_line(
    six_views, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TF_MOPOE_DATA", str(tmp_path))
    six_views["main"]([])
    printed = capsys.readouterr().out
    assert printed.startswith("skipped: ")
    assert "TF_MOPOE_DATA" in printed
    assert printed.count("\n") == 1


def test_r2_averages_over_columns_that_vary(six_views):
    actual = np.array([[0.0, 5.0, 1.0], [2.0, 5.0, 3.0]])
    predicted = np.array([[0.0, 9.0, 2.0], [2.0, 9.0, 2.0]])
    # 1 for the first, 0 (its mean) for the last, nothing for the constant one.
    assert six_views["mean_r2"](actual, predicted) == 0.5


@pytest.mark.slow
def test_six_views_runs_through_in_one_epoch(six_views, six_views_path):
    model, train, test, imputed = six_views["fit_and_impute"](six_views_path, epochs=1)
    assert imputed.shape == (400, 47)
    assert np.isfinite(imputed).all()
    share = np.mean([flag.mean() for flag in train["present"].values()])
    np.testing.assert_allclose(share, 0.7, atol=0.02)  # standard error 0.005
    # The product of what is given is what a model of one product infers.
    given = {"pix": test["pix"][:5], "mor": test["mor"][:5]}
    product = six_views["impute_by_product"](model, given, "fac")
    full = type(model).from_config({**model.get_config(), "subsets": "full"})
    full.set_weights(model.get_weights())
    expected = full.decode(full.encode(given)["loc"])["fac"]
    np.testing.assert_allclose(product, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_six_views_are_imputed_better_than_by_mean_or_regression(
    six_views, six_views_path
):
    model, train, test, _ = six_views["fit_and_impute"](six_views_path)
    rows = six_views["measure"](model, train, test)
    for row in rows.values():
        assert row["product5"] > row["ridge_average"] + 0.05
        assert row["product5"] > 0.2  # the mean has 0
    better = {v for v, row in rows.items() if row["product5"] > row["ridge_best"]}
    # kar and pix are nearly linear in each other: there a regression is better.
    assert better >= {"fou", "fac", "zer", "mor"}


def gains(result):
    """Difference of the bounds of both models, in nats a row."""
    return {
        key: result["all rows"][key] - value
        for key, value in result["complete rows"].items()
        if isinstance(key, tuple)
    }


def test_rows_with_any_modality_left_are_kept_with_their_flags():
    rows = np.arange(1000.0)[:, np.newaxis]
    data = dict.fromkeys("abc", rows)
    holed, flags = load("missing_data")["with_holes"](data, 0.5, 0)
    # Half missing of three: 7 in 8 rows have some. Standard error 0.01.
    np.testing.assert_allclose(len(flags) / 1000, 7 / 8, atol=0.03)
    assert flags.any(axis=1).all()
    for index, name in enumerate("abc"):
        np.testing.assert_array_equal(holed[name], holed["a"])
        np.testing.assert_array_equal(holed["present"][name], flags[:, index])


@pytest.mark.slow
def test_incomplete_rows_improve_a_short_training():
    compare = load("missing_data")["compare"]
    result = compare(150, 0.5, 0, epochs=1, learning_rate=3e-3)
    # 1258 tuples of 5, half of the images missing: 1 - 2^-5 have some, 2^-5 all.
    assert 1190 < result["all rows"]["rows"] < 1250
    assert 20 < result["complete rows"]["rows"] < 60
    assert min(gains(result).values()) > 60.0  # 144 measured


@pytest.mark.slow
def test_incomplete_rows_improve_a_full_training():
    result = load("missing_data")["compare"](1500, 0.5, 0)
    assert min(gains(result).values()) > 300.0  # 954 measured


@pytest.mark.slow
def test_data_benchmark_builds_reads_and_compares(tmp_path, monkeypatch, capsys):
    module = load("data_pipeline")
    monkeypatch.delenv("TF_MOPOE_DATA", raising=False)
    module["build"](tmp_path, 600)
    printed = capsys.readouterr().out
    assert "700 tuples of five" in printed
    assert "peak memory" in printed
    rows = {f"m{m}": np.zeros([600, 28, 28, 3], np.uint8) for m in range(5)}
    assert module["rows_per_second"](rows) > 0
    module["compare"](rows, tf.data.Dataset.from_tensor_slices(rows), 1)
    printed = capsys.readouterr().out
    assert "1.000 of one batch's" in printed
    assert "from disk" in printed


@pytest.fixture
def digits_and_photographs():
    folder = pathlib.Path(os.environ.get("TF_MOPOE_DATA", ROOT / "../shared/data"))
    if not (folder / "svhn10k.npz").is_file():
        pytest.skip(f"no svhn10k.npz in {folder}: set TF_MOPOE_DATA to its folder")
    return folder.resolve()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "files"),
    [
        ("polymnist", ["digits=mnist.npz", "backgrounds=backgrounds"]),
        ("mnist_svhn_text", ["digits=mnist.npz", "svhn=svhn10k.npz"]),
    ],
)
def test_two_epochs_on_real_digits_learn(
    recipe, files, digits_and_photographs, tmp_path, monkeypatch
):
    monkeypatch.chdir(digits_and_photographs)
    out = tmp_path / "run"
    arguments = [recipe, "--out", str(out), "--epochs", "2", "--set", *files]
    assert train.main([*arguments, f"data_dir={tmp_path / 'tfds'}"]) == 0
    history = json.loads((out / "history.json").read_text())
    for name in ("loss", "val_loss"):  # by 6 and 2 % (polymnist), 19 and 5 %
        assert history[name][1] < 0.995 * history[name][0]
