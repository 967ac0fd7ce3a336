"""Interrupted trainings resume exactly, and damaged checkpoints are detected."""

import resource
import shutil

import numpy as np
import pytest

from tests.trainers.tiny_training import (
    EPOCHS,
    STEPS,
    At,
    Crash,
    crash,
    everything,
    run,
    terminate,
)
from trainers.errors import RunError, Stopped, UsageError
from trainers.runs.checkpoints import Checkpoints, root_cause
from trainers.runs.run_folder import RunFolder


@pytest.mark.integration
def test_history_has_every_number_of_every_epoch(whole):
    state = everything(whole)[1]
    names = {"loss", "a_log_likelihood", "kl_bound", "beta"}
    names |= {f"val_{name}" for name in names} | {"learning_rate", "val_elbo"}
    assert set(state.history) == names
    assert all(len(values) == EPOCHS for values in state.history.values())
    assert state.history["learning_rate"][-1] == pytest.approx(0, abs=1e-9)
    lines = (whole / "history.csv").read_text().splitlines()
    assert lines[0].split(",")[0] == "epoch"
    column = lines[0].split(",").index("val_loss")
    values = [float(line.split(",")[column]) for line in lines[1:]]
    assert values == state.history["val_loss"]


@pytest.mark.integration
def test_two_newest_checkpoints_are_kept(whole):
    checkpoint = [path.name for path in Checkpoints(whole / "checkpoints").paths()]
    assert checkpoint == ["step-00000015", "step-00000015-epoch-00003"]


@pytest.mark.parametrize(
    "batch", [2, pytest.param(STEPS - 1, marks=pytest.mark.integration)]
)
def test_run_stopped_within_an_epoch_resumes_bit_for_bit(
    batch, whole, tmp_path, capsys
):
    with pytest.raises(Stopped) as stopped:
        run(tmp_path, At(terminate, epoch=1, batch=batch))
    where = f"step {STEPS + batch + 1} (epoch 2, step {batch + 1} of 5)"
    assert str(stopped.value) == (
        f"stopped by SIGTERM after {where}; run the same command again to resume."
    )
    run(tmp_path)
    assert f"after {where} of 3 epochs" in capsys.readouterr().out
    assert everything(tmp_path) == everything(whole)


@pytest.mark.integration
def test_run_stopped_during_validation_resumes_with_validation(whole, tmp_path):
    at = At(terminate, epoch=1, batch=1, moment="test_batch_begin")
    with pytest.raises(Stopped, match=r"after step 10 \(epoch 2, step 5 of 5\)"):
        run(tmp_path, at)
    run(tmp_path)
    assert everything(tmp_path) == everything(whole)


@pytest.mark.integration
def test_crashes_lose_the_steps_since_the_checkpoint_and_nothing_else(whole, tmp_path):
    for epoch, batch in ((0, 4), (2, 1)):
        with pytest.raises(Crash):
            run(tmp_path, At(crash, epoch=epoch, batch=batch), checkpoint_steps=3)
    run(tmp_path)
    assert everything(tmp_path) == everything(whole)


@pytest.mark.integration
def test_checkpoints_are_written_after_checkpoint_minutes(tmp_path):
    def look(model):
        names = [path.name for path in Checkpoints(tmp_path / "checkpoints").paths()]
        assert names == ["step-00000001", "step-00000002"]
        raise Crash

    with pytest.raises(Crash):
        run(tmp_path, At(look, batch=2), checkpoint_minutes=1e-9)


@pytest.mark.integration
def test_more_epochs_stretch_schedules_of_a_resumed_run(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, At(terminate, batch=2), epochs=1)
    run(tmp_path, epochs=2)
    model = RunFolder(tmp_path).load_model()
    assert model.beta.decay_steps == 2 * STEPS
    assert int(model.optimizer.iterations) == 2 * STEPS


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the uninterrupted run, without its last checkpoint."""
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


NEWEST, BEFORE = "step-00000015-epoch-00003", "step-00000015"


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.keras", "state.json", "SHA256SUMS"])
def test_any_damage_of_the_newest_checkpoint_is_detected(name, copy, capsys):
    path = copy / "checkpoints" / NEWEST / name
    good = path.read_bytes()
    damages = [lambda keep=keep: path.write_bytes(good[:keep]) for keep in (0, 100, -9)]
    damages += [lambda at=at: flip(path, at) for at in np.linspace(0, 0.9, 9)]
    for damage in [*damages, path.unlink]:
        damage()
        checkpoint = Checkpoints(copy / "checkpoints").find()
        assert checkpoint.path.name == BEFORE
        assert f"{NEWEST} is damaged" in capsys.readouterr().err
        path.write_bytes(good)
    assert Checkpoints(copy / "checkpoints").find().path.name == NEWEST


@pytest.mark.integration
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    whole, tmp_path, capsys
):
    with pytest.raises(Crash):
        run(tmp_path, At(crash, epoch=1, batch=4), checkpoint_steps=3)
    flip(tmp_path / "checkpoints" / "step-00000009" / "model.keras", 0.5)
    run(tmp_path)
    message = capsys.readouterr().err
    assert "Resuming after step 6 (epoch 2, step 1 of 5): 3 steps lost." in message
    assert everything(tmp_path) == everything(whole)


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(copy):
    for name in (NEWEST, BEFORE):
        (copy / "checkpoints" / name / "state.json").unlink()
    before = (copy / "model.keras").read_bytes()
    with pytest.raises(RunError, match=r"no checkpoint can be read.*/state\.json"):
        run(copy, epochs=4)
    assert (copy / "model.keras").read_bytes() == before


def test_leftovers_of_a_killed_process_are_removed(copy):
    half = copy / "checkpoints" / ".step-00000018"
    half.mkdir()
    (half / "model.keras").write_bytes(b"PK")
    for name in (".7.model.keras", ".7.history.json", ".7.evaluation.json"):
        (copy / name).write_text("")
    (copy / "model.keras").unlink()  # it was killed before it had written this
    run(copy)
    hidden = {path.name for path in copy.rglob(".*")}
    assert hidden == {".lock", ".7.evaluation.json"}  # not of a training
    assert int(RunFolder(copy).load_model().optimizer.iterations) == EPOCHS * STEPS


@pytest.mark.integration
@pytest.mark.parametrize("size", [3_000, pytest.param(0, marks=pytest.mark.slow)])
def test_full_disk_is_one_line_and_keeps_checkpoints(size, whole, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(model):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    try:
        with pytest.raises(RunError) as failed:
            run(tmp_path, At(fill, epoch=1, batch=0), checkpoint_steps=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "step-00000005-epoch-00001 is kept" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert isinstance(root_cause(failed.value), OSError)
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert sorted(names) == ["step-00000003", "step-00000005-epoch-00001"]
    run(tmp_path)
    assert everything(tmp_path) == everything(whole)


@pytest.mark.integration
@pytest.mark.parametrize(
    "function", ["os.rename", pytest.param("shutil.copyfile", marks=pytest.mark.slow)]
)
def test_folder_that_becomes_read_only_keeps_its_files(function, tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(30, "Read-only file system")

    def protect(model):
        monkeypatch.setattr(function, refuse)

    with pytest.raises(RunError, match="Read-only file system.* is kept"):
        run(tmp_path, At(protect, epoch=1, batch=4))
    checkpoint = Checkpoints(tmp_path / "checkpoints").find().state
    assert checkpoint[:2] == ((1, 0) if function == "os.rename" else (2, 0))


@pytest.mark.parametrize("name", ["model.keras", "best.keras", "history.csv"])
def test_damaged_or_deleted_files_are_restored_from_the_checkpoint(
    name, whole, tmp_path
):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = (out / name).read_bytes()
    half = len(before) // 2
    if name == "model.keras":  # of the same size
        (out / name).write_bytes(before[:half] + b"!" + before[half + 1 :])
    else:
        (out / name).unlink()
    run(out, checkpoint_steps=3)
    assert (out / name).read_bytes() == before


def test_foreign_files_among_the_checkpoints_are_kept(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "checkpoints/.DS_Store").write_text("")
    (out / "checkpoints/.step-00000020").mkdir()
    run(out, checkpoint_steps=3)
    assert (out / "checkpoints/.DS_Store").exists()
    assert not (out / "checkpoints/.step-00000020").exists()


def test_checkpoints_without_config_json_are_refused(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "config.json").unlink()
    with pytest.raises(UsageError, match="has checkpoints, but no config.json"):
        run(out, latent_dim=3)
    assert not (out / "config.json").exists()
