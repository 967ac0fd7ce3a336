"""The files for TensorFlow Serving, read as the server reads them."""

import pathlib
import subprocess
import sys

import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from export.publication import server_config
from export.publication.server_config import write_server_files
from export.signatures.contract import BATCH_SIZES

ROOT = pathlib.Path(__file__).parents[2]
FILES = ["batching.config", "models.config", "monitoring.config"]


def make_message(name, wrapped=(), repeated=(), flags=(), strings=(), parts=None):
    """A class of messages whose fields are those of TensorFlow Serving's sources."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    message = file.message_type.add(name=name)

    def add(message, names, **kwargs):
        for key in names:
            number = len(message.field) + 1
            message.field.add(name=key, number=number, **{"label": 1, **kwargs})

    int64 = ".google.protobuf.Int64Value"
    add(message, wrapped, type=field.TYPE_MESSAGE, type_name=int64)
    add(message, repeated, type=field.TYPE_INT64, label=field.LABEL_REPEATED)
    for key, (type_name, booleans, texts) in (parts or {}).items():
        part = file.message_type.add(name=type_name)
        add(part, booleans, type=field.TYPE_BOOL)
        add(part, texts, type=field.TYPE_STRING)
        full_name = f".tensorflow.serving.{type_name}"
        add(message, [key], type=field.TYPE_MESSAGE, type_name=full_name)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName(f"tensorflow.serving.{name}")
    return message_factory.GetMessageClass(descriptor)


# tensorflow_serving/servables/tensorflow/session_bundle_config.proto
BatchingParameters = make_message(
    "BatchingParameters",
    wrapped=(
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
        "num_batch_threads",
    ),
    repeated=["allowed_batch_sizes"],
)
# tensorflow_serving/config/monitoring_config.proto
MonitoringConfig = make_message(
    "MonitoringConfig",
    parts={"prometheus_config": ("PrometheusConfig", ["enable"], ["path"])},
)


def parse_models(path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    return text_format.Parse(path.read_text(), config.ModelServerConfig())


def add_version(serving_dir, model, version="1"):
    folder = serving_dir / model / version
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("")


def listed(serving_dir):
    config = parse_models(serving_dir / "models.config").model_config_list.config
    return [(model.name, model.base_path) for model in config]


def test_every_model_with_a_version_is_listed_and_nothing_else(tmp_path):
    add_version(tmp_path, "two", "12")
    add_version(tmp_path, "one")
    add_version(tmp_path, "none yet", ".mopoe-staged")
    add_version(tmp_path, "no number", "latest")
    (tmp_path / "empty" / "1").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("")
    assert write_server_files(tmp_path) == []
    assert listed(tmp_path) == [("one", "/models/one"), ("two", "/models/two")]
    for model in parse_models(tmp_path / "models.config").model_config_list.config:
        assert model.model_platform == "tensorflow"
        assert not model.HasField("model_version_policy")  # the latest


def test_models_are_named_after_their_folders_at_any_mount(tmp_path):
    name = 'a "b" \\ é'
    add_version(tmp_path, name)
    write_server_files(str(tmp_path), "gs://bucket/models/")
    assert listed(tmp_path) == [(name, f"gs://bucket/models/{name}")]


def test_serving_dir_without_models_gives_an_empty_list(tmp_path):
    write_server_files(tmp_path)
    assert listed(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_batches_are_padded_to_the_sizes_that_are_warmed_up(tmp_path):
    write_server_files(tmp_path)
    text = (tmp_path / "batching.config").read_text()
    parameters = text_format.Parse(text, BatchingParameters())
    sizes = list(parameters.allowed_batch_sizes)
    assert sizes == list(BATCH_SIZES) == sorted(set(sizes))
    assert parameters.max_batch_size.value == sizes[-1]  # else the server ends
    assert 0 < parameters.batch_timeout_micros.value < 100_000
    assert parameters.max_enqueued_batches.value > 0
    assert parameters.num_batch_threads.value > 0


def test_metrics_are_exposed_where_prometheus_looks(tmp_path):
    write_server_files(tmp_path)
    text = (tmp_path / "monitoring.config").read_text()
    config = text_format.Parse(text, MonitoringConfig()).prometheus_config
    assert config.enable
    assert config.path == "/monitoring/prometheus/metrics"


def test_misspelt_field_would_be_noticed():
    with pytest.raises(text_format.ParseError, match="max_batch_sizes"):
        text_format.Parse("max_batch_sizes { value: 1 }", BatchingParameters())


@pytest.mark.parametrize("name", FILES)
def test_file_of_the_user_is_left_alone_and_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"# mine \xff\n")
    assert write_server_files(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"# mine \xff\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_first_line_names_the_writer_and_how_to_keep_changes(tmp_path):
    write_server_files(tmp_path)
    for name in FILES:
        first, *rest = (tmp_path / name).read_text().splitlines(keepends=True)
        assert first.startswith("# ")
        assert "mopoe-export" in first
        assert "remove this line" in first
        (tmp_path / name).write_text("".join(rest))  # as it says
    assert sorted(write_server_files(tmp_path)) == FILES


def test_only_changed_files_are_written(tmp_path):
    add_version(tmp_path, "one")
    write_server_files(tmp_path)
    before = {name: (tmp_path / name).stat().st_ino for name in FILES}
    write_server_files(tmp_path)
    assert before == {name: (tmp_path / name).stat().st_ino for name in FILES}
    add_version(tmp_path, "two")
    write_server_files(tmp_path)
    changed = [n for n in FILES if (tmp_path / n).stat().st_ino != before[n]]
    assert changed == ["models.config"]
    assert len(listed(tmp_path)) == 2


def test_file_is_complete_and_on_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    steps = []
    original, flush = server_config.os.replace, server_config.flush

    def replace(new, path):
        steps.append(("replace", path.name, new.read_text()))
        original(new, path)

    def record(path):
        steps.append(("flush", path.name))
        flush(path)

    monkeypatch.setattr(server_config.os, "replace", replace)
    monkeypatch.setattr(server_config, "flush", record)
    write_server_files(tmp_path)
    for index, name in enumerate(["models.config", "batching.config"]):
        first, second, third = steps[3 * index : 3 * index + 3]
        assert first == ("flush", f".{name}.new")
        assert second == ("replace", name, (tmp_path / name).read_text())
        assert third == ("flush", tmp_path.name)


WRITE = """
import pathlib, sys
from export.publication.server_config import write_server_files
serving_dir, model = pathlib.Path(sys.argv[1]), sys.argv[2]
for number in range(5):
    folder = serving_dir / f"{model}{number}" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text("")
    write_server_files(serving_dir)
"""


def test_exporters_of_several_models_at_once_are_all_listed(tmp_path):
    command = [sys.executable, "-S", "-c", WRITE, str(tmp_path)]
    processes = [subprocess.Popen([*command, model], cwd=ROOT) for model in "abcd"]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert len(listed(tmp_path)) == 20
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_server_files(tmp_path / "file")
