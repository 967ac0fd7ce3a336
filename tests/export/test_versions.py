"""Version folders: numbers, locks, pruning, and what is left behind."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from export.publication import versions
from export.publication.versions import locked, release, staged

ROOT = pathlib.Path(__file__).parents[2]


def publish(base, keep=None, text="model"):
    with staged(base) as folder:
        (folder / "variables").mkdir()
        (folder / "variables" / "data").write_text(text)
        (folder / "saved_model.pb").write_text(text)
        return release(folder, base, keep)


def names(base):
    return sorted(path.name for path in base.iterdir())


def start(script, *arguments):
    """A process with the standard library and `export` only."""
    command = [sys.executable, "-S", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for_word(process):
    assert process.stdout.readline() == "ready\n"


STAGE = """
import pathlib, signal, sys, time
from export.publication.versions import staged
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with staged(sys.argv[1]) as folder:
    (folder / "half").write_text("")
    print("ready", flush=True)
    time.sleep(60)
"""

PUBLISH = """
import sys
from export.publication.versions import release, staged
base, keep = sys.argv[1], int(sys.argv[2]) or None
for _ in range(5):
    with staged(base) as folder:
        for name in "abc":
            (folder / name).write_text("model")
        print(release(folder, base, keep).name, flush=True)
"""


def test_versions_count_up_from_1_and_nothing_else_is_left(tmp_path):
    base = tmp_path / "serving" / "model"
    assert [publish(base).name for _ in range(3)] == ["1", "2", "3"]
    assert names(base) == ["1", "2", "3"]
    assert (base / "2" / "variables" / "data").read_text() == "model"


def test_staged_folder_is_hidden_from_servers_and_empty(tmp_path):
    base = tmp_path / "model"
    with staged(str(base)) as folder:
        assert folder.parent == base
        assert folder.name.startswith(".")
        assert list(folder.iterdir()) == []


def test_version_has_the_permissions_of_other_folders(tmp_path):
    previous = os.umask(0o022)
    try:
        version = publish(tmp_path / "model")
    finally:
        os.umask(previous)
    assert version.stat().st_mode & 0o777 == 0o755


def test_number_is_above_every_name_that_a_server_reads_as_a_version(tmp_path):
    (tmp_path / "7").mkdir()  # empty: a rename onto it would succeed
    (tmp_path / "010").mkdir()
    (tmp_path / "12").write_text("a file")
    (tmp_path / ".99").mkdir()
    (tmp_path / "x13").mkdir()
    (tmp_path / "٢٠").mkdir()  # decimal digits, though not for a server
    assert publish(tmp_path).name == "13"
    assert list((tmp_path / "7").iterdir()) == []


def test_nothing_is_overwritten_where_locks_have_no_effect(tmp_path, monkeypatch):
    for name in "12":
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text("theirs")
    (tmp_path / "3").write_text("theirs")
    listings = [[], [tmp_path / "1"], [tmp_path / "2"], [tmp_path / "3"]]
    monkeypatch.setattr(pathlib.Path, "iterdir", lambda self: listings.pop(0))
    with staged(tmp_path) as folder:
        (folder / "saved_model.pb").write_text("ours")
        assert release(folder, tmp_path) == tmp_path / "4"
    for name in "12":
        assert (tmp_path / name / "saved_model.pb").read_text() == "theirs"


def test_pruning_keeps_the_highest_numbers_and_no_number_comes_twice(tmp_path):
    for _ in range(11):
        publish(tmp_path, keep=3)
    assert names(tmp_path) == ["10", "11", "9"]
    assert publish(tmp_path, keep=1).name == "12"
    assert names(tmp_path) == ["12"]
    assert publish(tmp_path, keep=1).name == "13"


def test_pruning_leaves_files_and_links_that_look_like_versions(tmp_path):
    (tmp_path / "1").write_text("")
    (tmp_path / "2").symlink_to(tmp_path)
    publish(tmp_path, keep=1)
    assert publish(tmp_path, keep=1).name == "4"
    assert names(tmp_path) == ["1", "2", "4"]


def test_outdated_version_is_hidden_for_good_before_it_is_deleted(
    tmp_path, monkeypatch
):
    flushed, deleted = [], []

    def flush(path):
        flushed.append((path, names(tmp_path)))

    def rmtree(path):
        deleted.append(path.name)
        assert (path / "variables" / "data").exists()
        folder, listed = flushed[-1]  # else a power cut could bring it back
        assert folder == tmp_path
        assert "1" not in listed
        original(path)

    original = versions.shutil.rmtree
    publish(tmp_path)
    monkeypatch.setattr(versions, "flush", flush)
    monkeypatch.setattr(versions.shutil, "rmtree", rmtree)
    publish(tmp_path, keep=1)
    assert len(deleted) == 1
    assert deleted[0].startswith(".")


def test_all_is_on_disk_before_it_appears(tmp_path, monkeypatch):
    flushed = []

    def fsync(descriptor):
        path = pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        flushed.append(path)

    monkeypatch.setattr(versions.os, "fsync", fsync)
    version = publish(tmp_path / "model")
    hidden = flushed[0].parents[1] if flushed[0].name == "data" else flushed[0].parent
    assert hidden.name.startswith(".mopoe-")
    before = {path.relative_to(hidden) for path in flushed[:4]}
    assert {str(path) for path in before} == {
        "variables/data", "variables", "saved_model.pb", ".",
    }  # fmt: skip
    assert flushed[3] == hidden  # its names last
    assert flushed[4:] == [version.parent, version.parents[1]]


def test_file_system_that_flushes_no_folders_is_supported(tmp_path, monkeypatch):
    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(versions.os, "fsync", fsync)
    assert publish(tmp_path).name == "1"


def test_failing_disk_is_an_os_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(versions.os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        publish(tmp_path / "model")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing_not_even_the_model_folder(tmp_path, error):
    def fail(folder):
        (folder / "half").write_text("")
        raise error

    with pytest.raises(error), staged(tmp_path / "model") as folder:
        fail(folder)
    assert names(tmp_path) == []


def test_existing_folder_stays_though_empty(tmp_path):
    with pytest.raises(RuntimeError), staged(tmp_path):
        raise RuntimeError
    assert names(tmp_path) == []


def test_failure_leaves_older_versions(tmp_path):
    publish(tmp_path / "model")
    with pytest.raises(RuntimeError), staged(tmp_path / "model"):
        raise RuntimeError
    assert names(tmp_path / "model") == ["1"]


def test_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    for base in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(OSError, match="file"), staged(base):
            pass
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="link"), staged(tmp_path / "link"):
        pass


def test_work_of_a_living_exporter_is_left_alone(tmp_path):
    with staged(tmp_path) as mine:
        (mine / "saved_model.pb").write_text("mine")
        publish(tmp_path, keep=1)
        publish(tmp_path, keep=1)
        assert release(mine, tmp_path, keep=1).name == "3"
    assert names(tmp_path) == ["3"]
    assert (tmp_path / "3" / "saved_model.pb").read_text() == "mine"


def test_work_of_a_killed_exporter_is_removed_by_the_next(tmp_path):
    with start(STAGE, tmp_path) as process:
        wait_for_word(process)
        publish(tmp_path)
        assert len(names(tmp_path)) == 3  # a folder and its lock
        process.kill()
    publish(tmp_path)
    assert names(tmp_path) == ["1", "2"]


def test_half_deleted_versions_and_lone_locks_are_removed_by_the_next(tmp_path):
    (tmp_path / f"{versions.PREFIX}3" / "variables").mkdir(parents=True)
    (tmp_path / f"{versions.PREFIX}4.lock").write_text("")
    (tmp_path / versions.LOCK).write_text("")
    (tmp_path / ".snapshot").mkdir()  # not ours
    publish(tmp_path)
    assert names(tmp_path) == [".snapshot", "1"]


def test_sigterm_handler_that_raises_leaves_no_files(tmp_path):
    with start(STAGE, tmp_path / "model") as process:
        wait_for_word(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143
    assert names(tmp_path) == []


@pytest.mark.parametrize("keep", [0, 2])
def test_exporters_at_once_take_different_numbers(tmp_path, keep):
    processes = [start(PUBLISH, tmp_path / "model", keep) for _ in range(6)]
    numbers = []
    for process in processes:
        numbers += [int(line) for line in process.communicate(timeout=60)[0].split()]
        assert process.returncode == 0
    assert sorted(numbers) == list(range(1, 31))
    left = numbers if keep == 0 else (29, 30)
    assert names(tmp_path / "model") == sorted(map(str, left))
    for number in left:
        assert names(tmp_path / "model" / str(number)) == ["a", "b", "c"]


def test_lock_is_held_by_one_at_a_time_and_leaves_no_file(tmp_path):
    path = tmp_path / "folder" / "lock"
    with locked(path) as first:
        assert first
        with locked(path, wait=False) as second:
            assert not second
    with locked(path, wait=False) as third:
        assert third
    assert names(path.parent) == []


def test_lock_file_is_removed_while_it_is_held(tmp_path, monkeypatch):
    original, closed = versions.os.close, []

    def close(descriptor):
        closed.append(descriptor)
        assert names(tmp_path) == []  # else another one may hold what is removed
        original(descriptor)

    monkeypatch.setattr(versions.os, "close", close)
    with locked(tmp_path / "lock"):
        pass
    assert len(closed) == 1


LOCK = """
import os, pathlib, sys
from export.publication.versions import locked
for _ in range(200):
    with locked(pathlib.Path(sys.argv[1]) / "folder" / "lock"):
        os.close(os.open(sys.argv[1] + "/inside", os.O_CREAT | os.O_EXCL))
        os.unlink(sys.argv[1] + "/inside")
    try:
        os.rmdir(sys.argv[1] + "/folder")  # as who has made it does, in the end
    except OSError:
        pass
"""


def test_lock_excludes_while_its_file_and_folder_are_removed_and_made(tmp_path):
    processes = [start(LOCK, tmp_path) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_nothing_heavy_is_imported():
    script = "import sys, export.publication.server_config; "
    script += "sys.exit(bool({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    before = time.monotonic()
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    assert time.monotonic() - before < 10
