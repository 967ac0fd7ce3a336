"""`mopoe-export`: the contract, the verification, and that nothing half-made shows."""

import os

import numpy as np
import pytest
import tensorflow as tf

from export import command, publish, session_check
from tf_mopoe import MMJSD, MVAE, Modality, MoPoEVAE
from tf_mopoe.subsets import SubsetSampler


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
    }


def test_first_version_is_1_and_holds_no_leftovers(version):
    assert version.name == "1"
    assert [path.name for path in version.parent.iterdir()] == ["1"]


def test_signatures_are_flat_and_named_after_the_modalities(version):
    signatures = session_check.CSession(str(version)).signatures
    assert set(signatures) == {"serving_default", "encode"}
    inputs = {"image", "has_image", "table", "has_table"}
    for signature in signatures.values():
        assert set(signature.inputs) == inputs
    assert set(signatures["serving_default"].outputs) == {"image", "table"}
    assert set(signatures["encode"].outputs) == {"loc", "scale"}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("image", "table"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_session_answers_as_the_keras_model(version, model, rows, image, table):
    session = session_check.CSession(str(version))
    feed = request(rows, bool(image), bool(table))
    answer = session.run(session.signatures["encode"], feed)
    batch = {name: feed[name] for name in ("image", "table") if feed[f"has_{name}"][0]}
    if batch:
        expected = model.encode(batch)
    else:
        expected = {"loc": np.zeros([rows, 3]), "scale": np.ones([rows, 3])}
    for name in ("loc", "scale"):
        np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-5)


def test_rows_of_one_batch_are_independent_and_nan_stays_in_its_row(version):
    session = session_check.CSession(str(version))
    encode = session.signatures["encode"]
    feed = request(3)
    feed["has_table"][1] = False
    feed["table"][1] = np.nan
    together = session.run(encode, feed)
    for row in range(3):
        alone = session.run(encode, {k: v[row : row + 1] for k, v in feed.items()})
        np.testing.assert_allclose(
            alone["loc"][0], together["loc"][row], rtol=1e-5, atol=1e-7
        )
    feed["table"][2, 0] = np.nan  # present: this row alone has no answer
    answer = session.run(encode, feed)["loc"]
    np.testing.assert_allclose(answer[:2], together["loc"][:2], rtol=1e-5, atol=1e-7)
    assert np.isnan(answer[2]).any()


def test_next_version_is_one_higher_and_the_first_stays(model, version):
    before = (version / "saved_model.pb").stat().st_mtime_ns
    second = publish.publish(model, version.parents[1])
    assert second.name == "2"
    assert (version / "saved_model.pb").stat().st_mtime_ns == before


def test_failed_verification_says_which_and_leaves_no_version(
    model, tmp_path, monkeypatch
):
    def wrong_examples(model, folder):
        write_examples(model, folder)
        path = folder / session_check.EXAMPLES
        with np.load(path) as archive:
            examples = dict(archive)
        key = next(
            k for k in examples if k.startswith("encode") and "/outputs/loc" in k
        )
        examples[key] = examples[key] + 0.01
        np.savez(path, **examples)

    write_examples = publish.write_examples
    monkeypatch.setattr(publish, "write_examples", wrong_examples)
    with pytest.raises(publish.ExportError, match="'encode'.*'loc' differs"):
        publish.publish(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_saved_model_that_a_session_cannot_load_is_refused(model, tmp_path):
    module = tf.Module()
    module.model = model
    # Loads with tf.saved_model.load; the Session finds no variables.
    inputs = publish.make_signatures(model)["encode"].inputs
    function = publish.make_signatures(model)["encode"].function
    module.serve = tf.function(function, input_signature=[inputs])
    signature = {"serving_default": module.serve, "encode": module.serve}
    tf.saved_model.save(module, str(tmp_path), signatures=signature)
    publish.write_examples(model, tmp_path)
    with pytest.raises(publish.ExportError, match="verification failed"):
        publish.verify(tmp_path)


def test_command_publishes_a_run_and_verifies_it(tiny_run, tmp_path, capsys):
    assert command.main([str(tiny_run), str(tmp_path)]) == 0
    version = tmp_path / "polydigits" / "1"
    assert f"Published {version}" in capsys.readouterr().out
    assert command.main(["--verify", str(version)]) == 0
    assert "2 signatures" in capsys.readouterr().out


def test_verify_notices_a_changed_variable(version, tmp_path, capsys):
    import shutil

    copy = tmp_path / "1"
    shutil.copytree(version, copy)
    data = copy / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[: len(content) // 2] = os.urandom(len(content) // 2)
    data.write_bytes(content)
    assert command.main(["--verify", str(copy)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "RUN and SERVING_DIR are required"),
        (["run"], "RUN and SERVING_DIR are required"),
        (["no-such-run", "serving"], "no-such-run has no model.keras"),
        (["--verify", "nowhere"], "nowhere holds no SavedModel"),
        (["run", "serving", "--verify", "x"], "--verify takes a version's folder"),
    ],
)
def test_wrong_usage_is_one_line_with_code_2(arguments, said, capsys):
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_folder_that_cannot_be_written_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(publish.UsageError, match="SERVING_DIR: can't write"):
        publish.publish(model, tmp_path / "file")


@pytest.mark.parametrize("cls", [MVAE, MMJSD, MoPoEVAE])
def test_styles_class_indices_and_tables_are_served(cls, tmp_path):
    kwargs = {"subsets": SubsetSampler(3, [["a"]])} if cls is MoPoEVAE else {}
    model = cls(
        [
            Modality("a", (3,), style_dim=2, likelihood_scale="per_element"),
            Modality("c", (2,), likelihood="integer_categorical", num_classes=5),
            Modality("t", (3,), likelihood=[("poisson", 1), ("categorical", 2)]),
        ],
        latent_dim=2,
        seed=0,
        **kwargs,
    )
    folder = publish.publish(model, tmp_path)  # compares with the model itself
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    flags = {f"has_{name}": tf.constant([True] * 3) for name in "act"}
    answer = served(
        a=tf.zeros([3, 3]), c=tf.constant([[0, 4], [0, 5], [-1, 2]]),
        t=tf.constant([[4.0, 0.0, 1.0]] * 3), **flags,
    )  # fmt: skip
    assert answer["c"].shape == (3, 2, 5)
    finite = np.isfinite(answer["c"]).all(axis=(1, 2))
    np.testing.assert_array_equal(finite, [True, False, False])
