"""`mopoe-export`: the contract, the verification, and no incomplete versions."""

import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import command
from export.publication import publish
from export.signatures.serving_model import serving_model
from export.signatures.signatures import make_signatures
from export.verification import examples, session_check
from tests.export.client.served_models import IMAGE, publish_served_models
from tests.tiny_models import tiny_model
from tf_mopoe import MMJSD, MMVAE, MVAE, Modality, MoPoEVAE, nets


@pytest.fixture(scope="module")
def model():
    """A model that is not published."""
    return tiny_model([Modality("image", (4, 4, 1)), "a"], name="small")


def request(rows, image=True, table=True):
    random = np.random.default_rng(rows)
    return {
        "image": random.random((rows, *IMAGE), dtype=np.float32),
        "has_image": np.full(rows, image),
        "table": random.random((rows, 4), dtype=np.float32),
        "has_table": np.full(rows, table),
        "seed": np.arange(rows),
    }


def run(session, name, feed):
    signature = session.signatures[name]
    return session.run(signature, {key: feed[key] for key in signature.inputs})


@pytest.mark.integration
def test_command_publishes_version_1_and_leaves_nothing_else(published):
    assert published.output == f"Published {published.version}\n"
    assert [path.name for path in published.version.parent.iterdir()] == ["1"]
    assert sorted(path.name for path in published.version.parents[1].iterdir()) == [
        "batching.config",
        "models.config",
        "monitoring.config",
        "views",
    ]


@pytest.mark.integration
def test_signatures_are_flat_and_named_after_the_modalities(session):
    both = {"image", "table"}
    observed = both | {"has_image", "has_table"}
    assert {
        name: (set(s.inputs), set(s.outputs)) for name, s in session.signatures.items()
    } == {
        "serving_default": (observed, both),
        "encode": (observed, {"loc", "scale"}),
        "impute": (observed | {"seed"}, both),
        "sample": ({"seed"}, both),
        "log_likelihood": (observed | {"seed"}, {"log_likelihood"}),
    }


@pytest.mark.integration
@pytest.mark.parametrize(("image", "table"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_session_answers_as_the_keras_model(session, served_models, image, table):
    model = served_models["views"].model
    for rows in (1, 3, 64):
        feed = request(rows, bool(image), bool(table))
        batch = {key: feed[key] for key in ("image", "table") if feed[f"has_{key}"][0]}
        expected = {"loc": np.zeros([rows, 2]), "scale": np.ones([rows, 2])}
        if batch:
            expected = model.encode(batch)
            means = model(batch)
            for name, value in run(session, "serving_default", feed).items():
                np.testing.assert_allclose(value, means[name], rtol=1e-4, atol=1e-5)
        for name, value in run(session, "encode", feed).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["serving_default", "impute", "log_likelihood"])
def test_rows_of_one_batch_are_independent_and_nan_stays_in_its_row(session, name):
    feed = request(3)
    feed["has_table"][1] = False
    feed["table"][1] = np.nan
    together = run(session, name, feed)
    for row in range(3):
        alone = run(session, name, {k: v[row : row + 1] for k, v in feed.items()})
        for key, value in together.items():
            np.testing.assert_allclose(alone[key][0], value[row], rtol=1e-5, atol=1e-6)
    feed["table"][2, 0] = np.nan  # present: only this row has no answer
    for key, value in run(session, name, feed).items():
        np.testing.assert_allclose(value[:2], together[key][:2], rtol=1e-5, atol=1e-6)
        assert np.isnan(value[2]).all()


@pytest.fixture
def no_saving(monkeypatch):
    """Makes `publish` write one small file, and verify nothing."""

    def write(model, signatures, folder):
        (folder / "saved_model.pb").write_text("")
        return {name: s.function for name, s in signatures.items()}

    monkeypatch.setattr(publish, "write_saved_model", write)
    monkeypatch.setattr(publish, "write_examples", lambda *_: None)
    monkeypatch.setattr(publish, "write_warmup", lambda *_: None)
    monkeypatch.setattr(publish, "verify", lambda _: "")


def test_next_version_is_one_higher_and_the_first_stays(model, tmp_path, no_saving):
    first = publish.publish(model, tmp_path)
    before = (first / "saved_model.pb").stat().st_mtime_ns
    assert publish.publish(model, tmp_path, keep=2).name == "2"
    assert (first / "saved_model.pb").stat().st_mtime_ns == before
    assert publish.publish(model, tmp_path, keep=1).name == "3"
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["3"]


@pytest.mark.integration
def test_failed_verification_names_the_fault_and_leaves_no_version(
    published, served_models, tmp_path, monkeypatch
):
    def copy(model, signatures, folder):
        shutil.copytree(published.version, folder, dirs_exist_ok=True)

    def wrong_examples(model, signatures, functions, folder):
        path = folder / session_check.EXAMPLES
        with np.load(path) as archive:
            examples = dict(archive)
        examples["outputs/encode/loc"] = examples["outputs/encode/loc"] + 0.01
        np.savez(path, **examples)

    monkeypatch.setattr(publish, "write_saved_model", copy)
    monkeypatch.setattr(publish, "write_examples", wrong_examples)
    monkeypatch.setattr(publish, "write_warmup", lambda *_: None)
    with pytest.raises(publish.ExportError, match="'encode', 1 rows.*'loc' differs"):
        publish.publish(served_models["views"].model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_verify_finds_a_changed_variable(published, tmp_path, capsys):
    copy = tmp_path / "1"
    shutil.copytree(published.version, copy)
    assert command.main(["--verify", str(copy)]) == 0
    assert "5 signatures" in capsys.readouterr().out
    data = copy / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[: len(content) // 2] = os.urandom(len(content) // 2)
    data.write_bytes(content)
    assert session_check.main(str(copy)) == 1  # in this process, to save its start
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "serving", "--keep", "0"],
        ["run", "serving", "--num-samples", "many"],
        ["run", "serving", "--num-samples", "1000001"],
        ["run", "out", "--format", "pmml"],
    ],
)
def test_invalid_options_are_one_line_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert arguments[2] in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN and SERVING_DIR are required"),
        (["run"], "RUN and SERVING_DIR are required"),
        (["no-such-run", "serving"], "no-such-run does not exist"),
        (["empty", "serving"], "empty has no model.keras"),
        (["notes.txt", "serving"], "notes.txt is neither a run's folder nor a .keras"),
        (["--verify", "nowhere"], "nowhere holds no SavedModel"),
        (["run", "serving", "--verify", "x"], "--verify takes a version's folder"),
        (["--verify", "x", "--keep", "3"], "--verify takes a version's folder"),
        (["RUN", ""], "RUN and SERVING_DIR are required"),
        (
            ["RUN", "out", "--format", "onnx", "--keep", "3"],
            "--keep can't be used with",
        ),
    ],
)
def test_wrong_usage_is_one_line_with_code_2(
    arguments, message, capsys, tmp_path, monkeypatch
):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "model.keras").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_folder_that_cannot_be_written_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(publish.UsageError, match="SERVING_DIR: can't write"):
        publish.publish(model, tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize("cls", [MMJSD, MVAE, MMVAE])
def test_styles_class_indices_and_tables_are_served(cls, tmp_path):
    model = cls(
        [
            Modality("a", (3,), style_dim=2, likelihood_scale="per_element"),
            Modality("c", (2,), likelihood="integer_categorical", num_classes=5),
            Modality("t", (3,), likelihood=[("poisson", 1), ("categorical", 2)]),
        ],
        latent_dim=2,
        seed=0,
    )
    folder = publish.publish(model, tmp_path)  # compares with the model itself
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    flags = {f"has_{name}": tf.constant([True] * 3) for name in "act"}
    answer = served(
        a=tf.zeros([3, 3]), c=tf.constant([[0, 4], [0, 5], [-1, 2]]),
        t=tf.constant([[4.0, 0.0, 1.0]] * 3), **flags,
    )  # fmt: skip
    assert answer["c"].shape == (3, 2, 5)
    assert np.isfinite(answer["c"]).all()


@pytest.mark.slow
def test_files_and_texts_pass_the_verification(tmp_path):
    publish_served_models(tmp_path)
    assert (tmp_path / "documents" / "1").is_dir()


def test_mixed_precision_is_served_in_float32_with_the_same_weights():
    small = {"hidden": (5,), "activation": "tanh"}

    def model_of(policy):
        keras.config.set_dtype_policy(policy)
        try:
            encoder = nets.dense_encoder((4,), **small)
            decoder = nets.dense_decoder((4,), 2, **small)
            modality = Modality("a", (4,), encoder=encoder, decoder=decoder)
            return MoPoEVAE([modality], latent_dim=2, seed=0)
        finally:
            keras.config.set_dtype_policy("float32")

    mixed, single = model_of("mixed_bfloat16"), model_of("float32")
    single.set_weights(mixed.get_weights())
    batch = {"a": np.random.default_rng(0).normal(size=[64, 4]).astype(np.float32)}
    assert (mixed(batch)["a"].numpy() != single(batch)["a"].numpy()).any()
    served = make_signatures(serving_model(mixed))["serving_default"].function
    flat = {"a": tf.constant(batch["a"]), "has_a": tf.ones([64], tf.bool)}
    answer = served(flat)["a"]
    np.testing.assert_allclose(answer, single(batch)["a"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answer, mixed(batch)["a"], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": 0}, ValueError, "`keep` must be 1 or more. Received: 0"),
        ({"keep": True}, TypeError, "`keep` must be an int. Received: True"),
        ({"num_samples": 0}, ValueError, "`num_samples` must be 1 or more"),
        ({"num_samples": 10**7}, ValueError, "`num_samples` must be 1000000 or less"),
        ({"num_samples": 2.5}, TypeError, "`num_samples` must be an int"),
        ({"image_bytes": ["a"]}, publish.UsageError, "image_bytes must name"),
        ({"image_bytes": "image"}, TypeError, "`image_bytes` must be a list"),
        (
            {"image_bytes": ["image"], "text_strings": ["image"]},
            publish.UsageError,
            r"both name \['image'\]",
        ),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    model, tmp_path, options, error, message
):
    with pytest.raises(error, match=message):
        publish.publish(model, tmp_path / "serving", **options)
    assert not (tmp_path / "serving").exists()


def test_names_of_images_may_come_from_a_generator(model):
    given = (name for name in ["image"])
    inputs = make_signatures(model, image_bytes=given)["encode"].inputs
    assert "image_bytes" in inputs


def test_other_kinds_of_models_are_refused(tmp_path):
    with pytest.raises(TypeError, match="`model` must be a model of tf_mopoe.*Sequent"):
        publish.publish(keras.Sequential(), tmp_path / "serving")


def test_failure_after_a_version_appeared_says_that_it_did(
    model, tmp_path, monkeypatch, no_saving
):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "write_server_files", full)
    with pytest.raises(publish.ExportError, match="published .*/1, but can't write"):
        publish.publish(model, tmp_path)
    assert (tmp_path / "small" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", ["..", "a/b", "two words", ".hidden"])
def test_names_that_are_not_a_folder_or_url_are_refused(
    name, model, tmp_path, monkeypatch
):
    monkeypatch.setattr(model, "name", name)
    with pytest.raises(publish.UsageError, match="the model's name"):
        publish.publish(model, tmp_path / "serving")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_nothing_behind(
    kind, model, tmp_path, monkeypatch, capsys, no_saving
):
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(publish, "verify", lambda _: signal.raise_signal(kind))
    assert command.main([str(tmp_path), str(tmp_path / "serving")]) == 1
    assert "stopped by a signal" in capsys.readouterr().err
    assert list((tmp_path / "serving").iterdir()) == []


def test_model_that_diverged_is_not_published(tmp_path, monkeypatch, no_saving):
    monkeypatch.setattr(publish, "write_examples", examples.write_examples)
    model = tiny_model("a")
    model.networks.decoders["a"].weights[0].assign(
        np.nan * model.networks.decoders["a"].weights[0]
    )
    with pytest.raises(publish.ExportError, match="itself returns NaN for"):
        publish.publish(model, tmp_path / "serving")
    assert list((tmp_path / "serving").iterdir()) == []
