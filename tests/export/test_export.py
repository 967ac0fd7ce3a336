"""`mopoe-export`: the contract, the verification, and that nothing half-made shows."""

import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import command
from export.publication import publish
from export.signatures.signatures import make_signatures
from export.verification import c_session, session_check
from tests.tiny_models import tiny_model
from tf_mopoe import MMJSD, MMVAE, MVAE, Modality, MoPoEVAE, nets
from tf_mopoe.data.texts import encode_text


@pytest.fixture(scope="module")
def model():
    return MoPoEVAE(
        [Modality("image", (8, 8, 1)), Modality("table", (5,))],
        latent_dim=3,
        name="small",
        seed=0,
    )


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return publish.publish(model, tmp_path_factory.mktemp("serving"))


def request(rows, image=True, table=True):
    random = np.random.default_rng(rows)
    return {
        "image": random.random((rows, 8, 8, 1), dtype=np.float32),
        "has_image": np.full(rows, image),
        "table": random.random((rows, 5), dtype=np.float32),
        "has_table": np.full(rows, table),
        "seed": np.arange(rows),
    }


def run(session, name, feed):
    signature = session.signatures[name]
    return session.run(signature, {key: feed[key] for key in signature.inputs})


@pytest.fixture(scope="module")
def session(version):
    return c_session.CSession(str(version))


def test_first_version_is_1_and_holds_no_leftovers(version):
    assert version.name == "1"
    assert [path.name for path in version.parent.iterdir()] == ["1"]


def test_signatures_are_flat_and_named_after_the_modalities(session):
    signatures = session.signatures
    both = {"image", "table"}
    asked = both | {"has_image", "has_table"}
    assert {
        name: (set(s.inputs), set(s.outputs)) for name, s in signatures.items()
    } == {
        "serving_default": (asked, both),
        "encode": (asked, {"loc", "scale"}),
        "impute": (asked | {"seed"}, both),
        "sample": ({"seed"}, both),
        "log_likelihood": (asked | {"seed"}, {"log_likelihood"}),
    }


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize(("image", "table"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_session_answers_as_the_keras_model(session, model, rows, image, table):
    feed = request(rows, bool(image), bool(table))
    answer = run(session, "encode", feed)
    batch = {name: feed[name] for name in ("image", "table") if feed[f"has_{name}"][0]}
    if batch:
        expected = model.encode(batch)
        for name, value in run(session, "serving_default", feed).items():
            np.testing.assert_allclose(value, model(batch)[name], rtol=1e-4, atol=1e-5)
    else:
        expected = {"loc": np.zeros([rows, 3]), "scale": np.ones([rows, 3])}
    for name in ("loc", "scale"):
        np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-5)


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
    feed["table"][2, 0] = np.nan  # present: this row alone has no answer
    for key, value in run(session, name, feed).items():
        np.testing.assert_allclose(value[:2], together[key][:2], rtol=1e-5, atol=1e-6)
        assert np.isnan(value[2]).all()


def test_next_version_is_one_higher_and_the_first_stays(model, version):
    before = (version / "saved_model.pb").stat().st_mtime_ns
    second = publish.publish(model, version.parents[1], keep=2)
    assert second.name == "2"
    assert (version / "saved_model.pb").stat().st_mtime_ns == before
    assert sorted(path.name for path in version.parents[1].iterdir()) == [
        "batching.config",
        "models.config",
        "monitoring.config",
        "small",
    ]


def test_failed_verification_says_which_and_leaves_no_version(
    model, tmp_path, monkeypatch
):
    def wrong_examples(model, signatures, functions, folder):
        write_examples(model, signatures, functions, folder)
        path = folder / session_check.EXAMPLES
        with np.load(path) as archive:
            examples = dict(archive)
        examples["outputs/encode/loc"] = examples["outputs/encode/loc"] + 0.01
        np.savez(path, **examples)

    write_examples = publish.write_examples
    monkeypatch.setattr(publish, "write_examples", wrong_examples)
    with pytest.raises(publish.ExportError, match="'encode', 1 rows.*'loc' differs"):
        publish.publish(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command_publishes_a_run_and_verifies_it(model, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    serving = tmp_path / "serving"
    assert command.main([str(tmp_path), str(serving), "--num-samples", "3"]) == 0
    version = serving / "small" / "1"
    assert f"Published {version}" in capsys.readouterr().out
    assert command.main(["--verify", str(version)]) == 0
    assert "5 signatures" in capsys.readouterr().out


def test_verify_notices_a_changed_variable(version, tmp_path, capsys):
    copy = tmp_path / "1"
    shutil.copytree(version, copy)
    data = copy / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[: len(content) // 2] = os.urandom(len(content) // 2)
    data.write_bytes(content)
    assert command.main(["--verify", str(copy)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "serving", "--keep", "0"],
        ["run", "serving", "--num-samples", "many"],
        ["run", "serving", "--num-samples", "1000001"],
        ["run", "out", "--format", "pmml"],
    ],
)
def test_options_that_can_not_be_meant_are_one_line_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert arguments[2] in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
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
        (["RUN", "out", "--format", "onnx", "--keep", "3"], "--keep is of no use"),
    ],
)
def test_wrong_usage_is_one_line_with_code_2(
    arguments, said, capsys, tmp_path, monkeypatch
):
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "model.keras").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_folder_that_cannot_be_written_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(publish.UsageError, match="SERVING_DIR: can't write"):
        publish.publish(model, tmp_path / "file")


@pytest.mark.parametrize(
    "cls",
    [
        MMJSD,
        pytest.param(MVAE, marks=pytest.mark.slow),
        pytest.param(MMVAE, marks=pytest.mark.slow),
    ],
)
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


def test_files_and_strings_are_served_in_the_graph(tmp_path):
    model = MoPoEVAE(
        [
            Modality("photo", (8, 6, 3)),
            Modality("text", (5, 71), likelihood="categorical"),
        ],
        latent_dim=2,
        seed=0,
    )
    folder = publish.publish(
        model, tmp_path, image_bytes=["photo"], text_strings=["text"], num_samples=3
    )
    session = c_session.CSession(str(folder))
    photo = np.random.default_rng(0).integers(0, 256, [8, 6, 3], np.uint8)
    feed = {
        "photo_bytes": np.array([tf.io.encode_png(photo).numpy(), b"?"], object),
        "text": np.array([b"", b"Seven"], object),
        "has_photo": np.array([True, False]),
        "has_text": np.array([False, True]),
    }
    answer = run(session, "encode", feed)["loc"]
    pixels = photo[None] / np.float32(255)
    letters = np.eye(71, dtype=np.float32)[encode_text(["Seven"], 5).numpy()]
    expected = [model.encode({"photo": pixels}), model.encode({"text": letters})]
    for row in range(2):
        np.testing.assert_allclose(answer[row], expected[row]["loc"][0], rtol=1e-4)


def test_mixed_precision_is_served_in_float32_with_the_same_weights(tmp_path):
    small = {"hidden": (5,), "activation": "tanh"}

    def model_of(policy):
        keras.config.set_dtype_policy(policy)
        try:
            return MoPoEVAE(
                [
                    Modality(
                        "a",
                        (4,),
                        encoder=nets.dense_encoder((4,), **small),
                        decoder=nets.dense_decoder((4,), 2, **small),
                    )
                ],
                latent_dim=2,
                seed=0,
            )
        finally:
            keras.config.set_dtype_policy("float32")

    mixed, single = model_of("mixed_bfloat16"), model_of("float32")
    single.set_weights(mixed.get_weights())
    batch = {"a": np.random.default_rng(0).normal(size=[64, 4]).astype(np.float32)}
    assert (mixed(batch)["a"].numpy() != single(batch)["a"].numpy()).any()
    session = c_session.CSession(str(publish.publish(mixed, tmp_path)))
    answer = run(session, "serving_default", {**batch, "has_a": np.ones(64, bool)})
    np.testing.assert_allclose(answer["a"], single(batch)["a"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answer["a"], mixed(batch)["a"], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        ({"keep": 0}, ValueError, "`keep` must be 1 or more. Received: 0"),
        ({"keep": True}, TypeError, "`keep` must be an int. Received: True"),
        ({"num_samples": 0}, ValueError, "`num_samples` must be 1 or more"),
        ({"num_samples": 10**7}, ValueError, "`num_samples` must be 1000000 or less"),
        ({"num_samples": 2.5}, TypeError, "`num_samples` must be an int"),
        ({"image_bytes": ["table"]}, publish.UsageError, "image_bytes must name"),
        ({"image_bytes": "image"}, TypeError, "`image_bytes` must be a list"),
        (
            {"image_bytes": ["image"], "text_strings": ["image"]},
            publish.UsageError,
            r"both name \['image'\]",
        ),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    model, tmp_path, spoil, error, said
):
    with pytest.raises(error, match=said):
        publish.publish(model, tmp_path / "serving", **spoil)
    assert not (tmp_path / "serving").exists()


def test_names_of_images_may_come_from_a_generator(model):
    given = (name for name in ["image"])
    inputs = make_signatures(model, image_bytes=given)["encode"].inputs
    assert "image_bytes" in inputs


def test_other_kinds_of_models_are_refused(tmp_path):
    with pytest.raises(TypeError, match="`model` must be a model of tf_mopoe.*Sequent"):
        publish.publish(keras.Sequential(), tmp_path / "serving")


def test_what_fails_after_a_version_appeared_says_that_it_did(
    model, tmp_path, monkeypatch
):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "verify", lambda _: "")
    monkeypatch.setattr(publish, "write_server_files", full)
    with pytest.raises(publish.ExportError, match="published .*/1, but can't write"):
        publish.publish(model, tmp_path)
    assert (tmp_path / "small" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", ["..", "a/b", "two words", ".hidden"])
def test_names_that_are_no_folder_or_url_are_refused(name, tmp_path, monkeypatch):
    model = tiny_model("a")
    monkeypatch.setattr(model, "name", name)
    with pytest.raises(publish.UsageError, match="the model's name"):
        publish.publish(model, tmp_path / "serving")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_nothing_behind(kind, model, tmp_path, monkeypatch, capsys):
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(publish, "verify", lambda _: signal.raise_signal(kind))
    assert command.main([str(tmp_path), str(tmp_path / "serving")]) == 1
    assert "stopped by a signal" in capsys.readouterr().err
    assert list((tmp_path / "serving").iterdir()) == []


def test_a_model_that_diverged_is_not_published(tmp_path):
    model = tiny_model("a")
    model.decoders[0].weights[0].assign(np.nan * model.decoders[0].weights[0])
    with pytest.raises(publish.ExportError, match="answers .* with NaN"):
        publish.publish(model, tmp_path / "serving")
    assert list((tmp_path / "serving").iterdir()) == []
