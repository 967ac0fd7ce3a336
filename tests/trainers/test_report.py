"""The report: pages from the content of evaluation.json alone."""

import re
import xml.etree.ElementTree

import pytest

from trainers.errors import RunError
from trainers.evaluation.measures import MEASURES
from trainers.evaluation.report import write_comparison, write_report
from trainers.runs.run_folder import RunFolder

CELLS = {"a": {"a": 0.9, "b": 0.5}, "a+b": {"a": 0.9, "b": None}}
PROBE = {"by_number_given": {"1": 0.5, "2": 0.75}, "by_subset": {"a": 0.5, "a+b": 0.6}}
LIKELIHOOD = {"mean": -3.25, "standard_error": None}
QUALITY = {"a": {"frechet_distance": 2000.0, "f8": 0.1, "f1_8": 0.2}}
INTERVALS = {
    "0.5": {"coverage": 0.4, "width": 1.0},
    "0.9": {"coverage": None, "width": None},
}
ENTRIES = {
    "conditional_coherence": {
        "score": "accuracy",
        "classifier_test_accuracy": {"a": 0.9},
        "product": {
            "by_number_given": {"1": 0.5, "2": None},
            "by_subset": CELLS,
            "by_attribute": {"a": {"b": {"Smiling": 0.4, "Bald": None}}},
        },
    },
    "joint_coherence": {"prior": 0.4, "gaussian_mixture": 0.45, "flow": None},
    "linear_probe": {"score": "accuracy", "per_subset": PROBE, "joint": PROBE},
    "log_likelihood": {"joint": LIKELIHOOD, "given_all_others": {"a": LIKELIHOOD}},
    "log_likelihood_published": {"joint": LIKELIHOOD},
    "sample_quality": {"prior": QUALITY, "given_all_others": QUALITY},
    "imputation": {
        "by_number_given": {"1": {"a": {"model": 0.1}}},
        "by_subset": {"b": {"a": {"model": 0.1, "ridge": None}}},
    },
    "calibration": {"by_subset": {"a": {"b": INTERVALS}}},
    "precision_share": {"mean": {"a": 0.4, "b": 0.6}},
    "figures": {"files": ["figures/there.png", "figures/gone.png"]},
}


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path)
    run.figures.mkdir()
    (run.figures / "there.png").write_bytes(b"png")
    return run


@pytest.fixture
def report():
    header = {"model": "MoPoEVAE", "recipe": "<u>", "split": "test", "steps": 3}
    common = {"protocol": "measured so", "num_rows": 5, "options": {"seed": 0}}
    return header | {name: {**common, **entry} for name, entry in ENTRIES.items()}


def test_page_shows_every_measure_and_escapes_names(run, report):
    assert set(ENTRIES) == set(MEASURES)
    published = {"linear_probe": {"A & B, 2021": {"1": 0.4, "3": 0.9}}}
    write_report(run, report, published)
    page = run.report_file.read_text()
    assert "<u>" not in page
    for name in MEASURES:
        assert f'<section id="{name}">' in page
    assert page.count("Measured so. Num rows 5.") == len(MEASURES)
    assert page.count("data:image/png") == 1
    for text in ("-3.250", "2,000.0", "Smiling", "b → a", "A &amp; B, 2021"):
        assert text in page
    assert "joint coherence, fitted gaussian mixture" in page


def test_charts_are_drawn_to_scale(run, report):
    write_report(run, report, {})
    charts = re.findall(r"<svg.*?</svg>", run.report_file.read_text(), re.DOTALL)
    coherence, probe, _ = map(xml.etree.ElementTree.fromstring, charts)
    assert len(coherence.findall(".//circle")) == 1  # None is not drawn
    first, second = probe.findall(".//circle")[:2]
    assert float(first.get("cy")) - float(second.get("cy")) == pytest.approx(250 * 0.25)
    assert float(second.get("cx")) > float(first.get("cx"))


def test_damaged_entry_is_refused_with_the_file(run, report):
    for damage in (5, None, {"protocol": "x"}, {"protocol": "x", "per_subset": 1}):
        with pytest.raises(RunError, match=r"evaluation\.json is damaged: delete it"):
            write_report(run, {**report, "linear_probe": damage}, {})


def test_comparison_has_a_column_per_run_and_missing_numbers(tmp_path, report):
    path = tmp_path / "page.html"
    write_comparison(path, {"one": report, "two": {**report, "split": "test"}}, {})
    page = path.read_text()
    assert page.count('<th scope="col">one</th><th scope="col">two</th>') == 9
    assert 'id="figures"' not in page
    assert "Comparison of 2 runs" in page
