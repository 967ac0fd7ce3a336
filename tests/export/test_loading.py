"""`mopoe-export` takes run folders and `.keras` files, and nothing else."""

import json
import zipfile

import keras
import numpy as np
import pytest

import export.portable
from export import command
from export.errors import ExportError, UsageError
from export.publication import publish
from export.signatures.loading import load_run
from export.signatures.serving_model import serving_model
from tests.tiny_models import tiny_batch, tiny_modality, tiny_model

RUN = "mopoe-export: error: RUN: "
FAILED = "mopoe-export: failed: can't load "


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file of a model that was trained."""
    model = tiny_model("ab", name="saved")
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(tiny_batch("ab"), verbose=0)
    path = tmp_path_factory.mktemp("saved") / "mine.keras"
    model.save(path)
    return path


def rewritten(saved, folder, name, change):
    """A copy of the file in which `change` gives a member's content, or None."""
    path = folder / "changed.keras"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            content = source.read(member)
            content = change(content) if member == name else content
            if content is not None:
                target.writestr(member, content)
    return path


def refusal(path, folder, capsys):
    """Exit code and the one line that the command prints for a file."""
    code = command.main([str(path), str(folder / "out")])
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert len(error) < 700
    assert not (folder / "out").exists()
    return code, error


@pytest.mark.integration
def test_file_that_a_user_saved_is_published(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(publish, "verify", lambda _: "")
    arguments = [str(saved), str(tmp_path), "--num-samples", "3"]
    assert command.main(arguments) == 0
    version = tmp_path / "saved" / "1"
    assert f"Published {version}" in capsys.readouterr().out
    assert (version / "saved_model.pb").is_file()


@pytest.mark.integration
@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_file_that_a_user_saved_is_written_for_other_runtimes(
    saved, tmp_path, capsys, monkeypatch, format
):
    def write(model, folder, format):
        return f"{model.name} {format}"

    monkeypatch.setattr(export.portable, "write_portable", write)
    arguments = [str(saved), str(tmp_path / "out"), "--format", format]
    assert command.main(arguments) == 0
    assert f"Wrote saved {format}" in capsys.readouterr().out


@pytest.mark.integration
def test_model_comes_back_with_its_weights_and_without_the_optimizer(saved):
    model, original = load_run(saved), keras.saving.load_model(saved)
    for ours, theirs in zip(model.weights, original.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not model.compiled


def test_help_names_both(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert "a run's folder, or a .keras file" in capsys.readouterr().out


def test_other_paths_are_wrong_usage(saved, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    renamed = tmp_path / "model.zip"
    renamed.write_bytes(saved.read_bytes())
    code, error = refusal(tmp_path / "nothing.keras", tmp_path, capsys)
    assert (code, "nothing.keras does not exist" in error) == (2, True)
    code, error = refusal(tmp_path / "empty", tmp_path, capsys)
    assert (code, "empty has no model.keras" in error) == (2, True)
    code, error = refusal(renamed, tmp_path, capsys)
    assert (code, "neither a run's folder nor a .keras file" in error) == (2, True)


def test_other_kinds_of_models_are_wrong_usage(tmp_path, capsys):
    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    code, error = refusal(path, tmp_path, capsys)
    assert code == 2
    assert error.startswith(f"{RUN}{path} holds a Sequential; mopoe-export publishes")


@pytest.mark.parametrize("content", [b"", b"hello", "half"])
def test_file_that_is_not_an_archive_is_refused(saved, tmp_path, capsys, content):
    path = tmp_path / "text.keras"
    whole = saved.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    code, error = refusal(path, tmp_path, capsys)
    assert (code, error.startswith(f"{FAILED}{path}: not a zip archive")) == (
        1,
        True,
    )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda _: None, "no item named 'config.json' in the archive"),
        ("config.json", lambda text: text[:50], "Expecting value: line 1 column 51"),
        ("config.json", lambda _: b"[1]", "list indices must be integers"),
        ("model.weights.h5", lambda _: None, "Expected a model.weights.h5"),
        ("model.weights.h5", lambda data: data[:500], "truncated file"),
        (
            "config.json",
            lambda text: text.replace(b'"latent_dim": 2', b'"latent_dim": 2, "odd": 5'),
            "Unrecognized keyword arguments passed to MoPoEVAE: {'odd': 5}",
        ),
        (
            "config.json",
            lambda text: text.replace(b'"latent_dim": 2', b'"latent_dim": 3'),
            "latent_dim 3",
        ),
        (
            "config.json",
            lambda text: text.replace(b"MoPoEVAE", b"NewVAE"),
            "class 'NewVAE' is not known. Register it",
        ),
    ],
)
def test_damaged_files_are_one_line_with_the_reason(
    saved, tmp_path, capsys, name, change, message
):
    path = rewritten(saved, tmp_path, name, change)
    code, error = refusal(path, tmp_path, capsys)
    assert (code, message in error) == (1, True), error


@keras.saving.register_keras_serializable(package="forgotten")
class OwnLayer(keras.layers.Layer):
    """A layer whose module mopoe-export does not import."""

    def call(self, x):
        return x


@keras.saving.register_keras_serializable(package="forgotten")
def own_activation(x):
    return x


@pytest.mark.parametrize("kind", ["class 'OwnLayer'", "function 'own_activation'"])
def test_unregistered_class_or_function_is_named_with_advice(
    kind, tmp_path, capsys, monkeypatch
):
    custom = OwnLayer if "Own" in kind else own_activation
    layer = (
        OwnLayer() if custom is OwnLayer else keras.layers.Activation(own_activation)
    )
    encoder = keras.Sequential([keras.Input((3,)), layer])
    path = tmp_path / "own.keras"
    tiny_model([tiny_modality("a", (3,), encoder=encoder)]).save(path)
    registered = keras.saving.get_registered_name(custom)
    monkeypatch.delitem(keras.saving.get_custom_objects(), registered)
    monkeypatch.setattr(custom, "__module__", "no_module_that_could_be_imported")
    monkeypatch.delitem(globals(), custom.__name__)
    code, error = refusal(path, tmp_path, capsys)
    assert code == 1
    assert error == (
        f"{FAILED}{path}: {kind} is not known. Register it with "
        "keras.saving.register_keras_serializable, import it, load the model in "
        "Python, and call export.publication.publish.publish(model, ...) there.\n"
    )


@pytest.mark.parametrize("error", [TypeError, ValueError])
@pytest.mark.parametrize(
    "message",
    [
        "`encoder` of modality 'a': class 'Mine' is not known. Import it.",
        "A network of the model can't be rebuilt: class 'Mine'. Import the module.",
    ],
)
def test_message_of_the_library_for_an_unknown_class_is_understood(
    saved, monkeypatch, error, message
):
    def fail(*_, **__):
        raise error(message)

    monkeypatch.setattr(keras.saving, "load_model", fail)
    with pytest.raises(ExportError, match="class 'Mine' is not known. Register it"):
        load_run(saved)


def test_lambda_layers_are_refused_with_advice(saved):
    encoder = keras.Sequential(
        [keras.Input((3,)), keras.layers.Lambda(lambda x: 2.0 * x)]
    )
    path = saved.with_name("lambda.keras")
    encoder.save(path)
    with pytest.raises(ExportError) as caught:
        load_run(path)
    assert "disallowed by default. If you trust it, load it with" in str(caught.value)
    assert str(caught.value).endswith(
        "safe_mode=False) in Python, and call export.publication.publish.publish("
        "model, ...) there."
    )


def test_unknown_optimizer_is_ignored(saved, tmp_path):
    def change(text):
        config = json.loads(text)
        config["compile_config"]["optimizer"]["class_name"] = "OwnOptimizer"
        config["compile_config"]["optimizer"]["module"] = None
        return json.dumps(config).encode()

    path = rewritten(saved, tmp_path, "config.json", change)
    assert load_run(path).name == "saved"


def test_folder_of_a_run_is_loaded_and_others_are_usage_errors(saved, tmp_path):
    with pytest.raises(UsageError, match="has no model.keras. Train with mopoe-train"):
        load_run(tmp_path)
    (tmp_path / "model.keras").write_bytes(saved.read_bytes())
    assert load_run(tmp_path).name == "saved"


def test_copy_for_serving_names_a_class_that_is_not_registered(monkeypatch):
    encoder = keras.Sequential([keras.Input((3,)), OwnLayer()])
    model = tiny_model([tiny_modality("a", (3,), encoder=encoder)])
    encoder.layers[0].dtype_policy = "mixed_bfloat16"  # so that it is copied
    registered = keras.saving.get_registered_name(OwnLayer)
    monkeypatch.delitem(keras.saving.get_custom_objects(), registered)
    monkeypatch.setattr(OwnLayer, "__module__", "no_module_that_could_be_imported")
    monkeypatch.delitem(globals(), "OwnLayer")
    with pytest.raises(ExportError, match="class 'OwnLayer' is not known.*able.$"):
        serving_model(model)
