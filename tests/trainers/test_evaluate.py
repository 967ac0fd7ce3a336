"""`mopoe-evaluate`: the report, the figures, and what it refuses."""

import json

import matplotlib.image
import pytest

from trainers import evaluate


def test_report_has_every_number_with_its_protocol(tiny_run, capsys):
    assert evaluate.main([str(tiny_run)]) == 0
    report = json.loads((tiny_run / "evaluation.json").read_text())
    coherence = report["conditional_coherence"]
    for posterior in ("product", "mixture"):
        assert list(coherence[posterior]["by_number_given"]) == ["1", "2", "3", "4"]
        assert len(coherence[posterior]["by_subset"]) == 30
    assert coherence["num_rows"] == 4 * 359
    assert all(0.8 < a <= 1 for a in coherence["classifier_test_accuracy"].values())
    assert len(report["linear_probe"]["by_subset"]) == 31
    assert list(report["linear_probe"]["by_number_given"]) == ["1", "2", "3", "4", "5"]
    assert 0 <= report["joint_coherence"]["value"] <= 1
    for name in evaluate.METRICS:
        assert report[name]["seconds"] >= 0
    for name in ("conditional_coherence", "joint_coherence", "linear_probe"):
        assert report[name]["protocol"]
    shown = capsys.readouterr().out
    for path in report["figures"]["files"]:
        assert path in shown
        assert matplotlib.image.imread(path).std() > 0.05  # not a blank page


def test_chosen_metrics_alone_are_measured(tiny_run):
    (tiny_run / "evaluation.json").unlink(missing_ok=True)
    assert evaluate.main([str(tiny_run), "--metrics", "linear_probe"]) == 0
    report = json.loads((tiny_run / "evaluation.json").read_text())
    assert set(report) == {"model", "tf_mopoe", "split", "steps", "linear_probe"}
    assert evaluate.main([str(tiny_run), "--metrics", "figures"]) == 0
    again = json.loads((tiny_run / "evaluation.json").read_text())
    assert again["linear_probe"] == report["linear_probe"]  # of the same model: kept
    assert "figures" in again


def test_folder_without_a_run_is_one_line_with_code_2(tmp_path, capsys):
    assert evaluate.main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is no run folder" in error
    assert error.count("\n") == 1


def test_unknown_metric_is_one_line_with_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main([str(tmp_path), "--metrics", "fid"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
