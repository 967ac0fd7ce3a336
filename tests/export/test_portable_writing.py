"""A folder for another runtime appears when every file answers right, or never."""

import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from export.errors import ExportError, UsageError
from export.portable import FORMATS, write_portable
from tests.tiny_models import tiny_model


@pytest.mark.parametrize(
    ("format", "package"), [("litert", "ai_edge_litert"), ("onnx", "onnx")]
)
def test_missing_package_is_named_with_what_installs_it(
    format, package, tmp_path, monkeypatch
):
    for name in [package, *sys.modules]:
        if name.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, FORMATS[format], raising=False)
    expected = rf"needs {package}.* pip install 'tf-mopoe\[{format}\]'"
    with pytest.raises(ExportError, match=expected):
        write_portable(tiny_model(), tmp_path / "new", format)
    assert list(tmp_path.iterdir()) == []


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'litert', 'onnx'.*Received: 'coreml'"):
        write_portable(tiny_model(), tmp_path / "new", "coreml")


@pytest.fixture
def runtime(monkeypatch):
    """A runtime that is the model itself; it keeps its requests."""
    fake = types.ModuleType("fake_format")
    fake.EXTENSION, fake.requests, fake.shift, fake.network = "txt", [], 0.0, None

    def convert(network, model):
        fake.network = network
        return network.name.encode()

    def run(request):
        fake.requests.append((fake.network.name, request))
        inputs = {key: tf.constant(value) for key, value in request.items()}
        answers = fake.network.function(inputs)
        return {key: value.numpy() + fake.shift for key, value in answers.items()}

    fake.convert, fake.load, fake.reason = convert, lambda content: run, str
    monkeypatch.setitem(sys.modules, "fake_format", fake)
    monkeypatch.setitem(FORMATS, "fake", "fake_format")
    return fake


def test_every_pattern_is_tried_alone_and_in_threes_before_the_folder_appears(
    runtime, tmp_path
):
    write_portable(tiny_model("abc"), tmp_path / "deep" / "new", "fake")
    encode_requests = [
        request for name, request in runtime.requests if name == "encode"
    ]
    for rows in (1, 3):
        seen = set()
        for request in encode_requests:
            flags = np.stack([request[f"has_{name}"] for name in "abc"], axis=1)
            if len(flags) == rows:
                seen |= {tuple(row) for row in flags.tolist()}
            for name in "abc":
                absent = ~request[f"has_{name}"]
                assert np.isnan(request[name][absent]).all()
                assert np.isfinite(request[name][~absent]).all()
        assert len(seen) == 8 if rows == 1 else len(seen) >= 6
    assert {name for name, _ in runtime.requests} == {
        *("encode", "decode_a", "decode_b", "decode_c")
    }


def test_other_answer_than_the_models_leaves_nothing(runtime, tmp_path):
    runtime.shift = 1e-3
    with pytest.raises(ExportError, match="other answers for encode.*output 'loc'"):
        write_portable(tiny_model(), tmp_path / "new", "fake")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_exists_is_not_touched(runtime, tmp_path):
    (tmp_path / "encode.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists; name a folder that does not"):
        write_portable(tiny_model(), tmp_path, "fake")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_folder_that_appears_meanwhile_is_not_overwritten(runtime, tmp_path):
    def convert(network, model):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / "file").write_text("another's")
        runtime.network = network
        return b""

    runtime.convert = convert
    with pytest.raises(UsageError, match="was made by another process"):
        write_portable(tiny_model(), tmp_path / "new", "fake")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
