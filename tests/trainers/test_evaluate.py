"""`mopoe-evaluate`: numbers with their protocols, the page, and what it refuses."""

import html.parser
import json
import re
import shutil
import subprocess
import zipfile

import matplotlib.image
import pytest
import tensorflow as tf

from tests.trainers.three_digits import NAMES, RECIPE, TEST_ROWS
from trainers import evaluate, train
from trainers.recipes.registry import RECIPES
from trainers.runs.run_folder import RunFolder

pytestmark = pytest.mark.integration

FEW = ["--rows", "20", "--num-samples", "20"]
COUNTS = {
    "conditional_coherence": {"seed", "num_rows", "samples_per_row"},
    "joint_coherence": {"seed", "num_samples"},
    "linear_probe": {"num_rows", "num_train"},
    "log_likelihood": {"seed", "num_rows", "num_samples"},
    "sample_quality": {"seed", "num_samples"},
    "imputation": {"num_rows"},
    "calibration": {"seed", "num_rows", "num_samples"},
    "precision_share": {"num_rows"},
    "figures": {"seed"},
}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, quick_measures):
    """A run of the small recipe, evaluated on few rows."""
    run = tmp_path_factory.mktemp("evaluated") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "three_digits", RECIPE)
        arguments = ["--out", str(run), "--set", "evaluate_every=1"]
        assert train.main(["three_digits", *arguments]) == 0
        assert evaluate.main([str(run), *FEW]) == 0
        yield run


@pytest.fixture(scope="module")
def report(evaluated):
    return json.loads((evaluated / "evaluation.json").read_text())


def test_every_number_has_its_protocol_seed_counts_and_time(report):
    assert set(COUNTS) == set(evaluate.DEFAULT_METRICS) <= set(report)
    for name, counts in COUNTS.items():
        assert report[name]["protocol"]
        assert report[name]["seconds"] >= 0
        assert counts <= set(report[name])
        if "num_rows" in counts:
            assert report[name]["num_rows"] == 20


def test_tables_are_of_every_subset_and_target(report):
    coherence = report["conditional_coherence"]
    for reading in ("product", "mixture", "product_mean"):
        table = coherence[reading]["by_subset"]
        assert len(table) == 7
        assert all(tuple(row) == NAMES for row in table.values())
        # Of the full set there is no target that was not given.
        assert list(coherence[reading]["by_number_given"]) == ["1", "2"]
        assert len(coherence[reading]["by_number_given_of_given"]) == 3
    single = coherence["product"]["by_subset"]
    others = [
        row[t] for s, row in single.items() if "+" not in s for t in row if t != s
    ]
    assert coherence["product"]["by_number_given"]["1"] == pytest.approx(
        sum(others) / 6
    )
    assert all(0.7 < a <= 1 for a in coherence["classifier_test_accuracy"].values())
    for protocol in ("per_subset", "joint"):
        assert len(report["linear_probe"][protocol]["by_subset"]) == 7
    assert {"prior", "gaussian_mixture", "flow"} <= set(report["joint_coherence"])


def test_conditional_log_likelihood_is_a_difference_of_joint_ones(report):
    entry = report["log_likelihood"]
    for target in entry["given_all_others"].values():
        # One image of three: its density is a part of the whole's.
        assert abs(target["mean"]) < abs(entry["joint"]["mean"])
        assert target["standard_error_of_draws"] > 0
    assert 1 <= entry["joint"]["median_effective_sample_size"] <= 20


def test_figures_are_not_blank(evaluated, report):
    names = [path.split("/")[-1] for path in report["figures"]["files"]]
    assert names == [
        "reconstructions.png",
        "imputation.png",
        "samples.png",
        "traversal.png",
    ]
    for path in report["figures"]["files"]:
        assert matplotlib.image.imread(evaluated / path).std() > 0.05


class Page(html.parser.HTMLParser):
    """Tags that are open, addresses and texts of a page."""

    VOID = frozenset(["meta", "link", "img", "br"])

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.texts, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_page_needs_no_other_file_and_has_every_metric(evaluated, report):
    page = Page((evaluated / "report.html").read_text())
    assert page.open == []
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert page.tags.count("section") == len(COUNTS)
    value = report["joint_coherence"]["prior"]
    assert f"{value:.3f}" in page.texts
    assert page.tags.count("img") == 4  # figures
    assert page.tags.count("svg") == 3  # charts


def test_page_opens_in_a_browser_without_an_error(evaluated):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome here")
    page = (evaluated / "report.html").resolve().as_uri()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    finished = subprocess.run(
        [browser, *options, "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Conditional coherence" in finished.stdout
    assert not re.findall(r".*CONSOLE.*", finished.stderr)


def test_chosen_metrics_alone_are_measured_and_others_kept(evaluated, report, capsys):
    assert evaluate.main([str(evaluated), "--metrics", "precision_share"]) == 0
    again = json.loads((evaluated / "evaluation.json").read_text())
    assert again["precision_share"]["num_rows"] == TEST_ROWS
    assert again["log_likelihood"] == report["log_likelihood"]
    shown = capsys.readouterr().out
    assert "precision share" in shown
    assert str(evaluated / "report.html") in shown


def test_numbers_of_another_model_are_not_kept(evaluated, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    with zipfile.ZipFile(run / "model.keras", "a") as file:
        file.comment = b"another file"
    assert evaluate.main([str(run), "--metrics", "precision_share"]) == 0
    report = json.loads((run / "evaluation.json").read_text())
    assert "log_likelihood" not in report
    assert set(COUNTS) & set(report) == {"precision_share"}


def test_runs_are_compared_on_one_page(evaluated, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(evaluated, other)
    path = tmp_path / "both.html"
    arguments = [str(evaluated), str(other), "--compare", str(path), "--metrics"]
    before = (evaluated / "evaluation.json").read_text()
    metrics = ["joint_coherence", "linear_probe"]
    assert evaluate.main([*arguments, *metrics, *FEW]) == 0
    assert (evaluated / "evaluation.json").read_text() == before  # measured already
    page = Page(path.read_text())
    assert str(evaluated) in page.texts
    assert str(other) in page.texts
    assert page.tags.count("section") == 2
    assert str(path) in capsys.readouterr().out
    assert evaluate.main([*arguments, "precision_share", "--rows", "7"]) == 0
    report = json.loads((other / "evaluation.json").read_text())
    assert report["precision_share"]["num_rows"] == 7  # other options: measured anew
    capsys.readouterr()
    nowhere = str(tmp_path / "nowhere" / "page.html")
    assert evaluate.main([*arguments[:3], nowhere, "--metrics", "linear_probe"]) == 2
    error = capsys.readouterr().err
    assert "--compare" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_moved_run_keeps_its_figures_and_damaged_classifiers_are_retrained(
    evaluated, tmp_path
):
    run = tmp_path / "moved"
    shutil.copytree(evaluated, run)
    classifier = run / "classifiers" / "m0.keras"
    classifier.write_bytes(b"damaged")
    shutil.rmtree(run / "figures")
    arguments = [str(run), "--rows", "2", "--num-samples", "2", "--metrics"]
    assert evaluate.main([*arguments, "figures", "sample_quality"]) == 0
    assert classifier.stat().st_size > 10_000
    assert (run / "report.html").read_text().count("data:image/png") == 4
    report = json.loads((run / "evaluation.json").read_text())
    assert report["sample_quality"]["num_rows"] == 2


def test_failed_measure_is_one_line_and_other_measures_are_kept(
    evaluated, tmp_path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(evaluated, run)
    arguments = [str(run), "--num-train", "1", "--rows", "9", "--metrics"]
    assert evaluate.main([*arguments, "precision_share", "linear_probe"]) == 1
    error = capsys.readouterr().err
    assert "linear_probe" in error
    assert error.count("\n") == 1
    report = json.loads((run / "evaluation.json").read_text())
    assert report["precision_share"]["num_rows"] == 9
    assert report["linear_probe"]["num_train"] == 500
    report["linear_probe"] = 5
    (run / "evaluation.json").write_text(json.dumps(report))
    assert evaluate.main([str(run), "--metrics", "precision_share"]) == 1
    assert "damaged: delete it" in capsys.readouterr().err


def test_runs_without_a_model_are_refused_before_any_is_measured(
    evaluated, tmp_path, capsys
):
    untrained = tmp_path / "untrained"
    untrained.mkdir()
    shutil.copy(evaluated / "config.json", untrained)
    before = (evaluated / "evaluation.json").read_text()
    arguments = [str(evaluated), str(untrained), "--metrics", "precision_share"]
    assert evaluate.main(arguments) == 2
    assert "has no model yet" in capsys.readouterr().err
    assert (evaluated / "evaluation.json").read_text() == before


@pytest.mark.parametrize("content", [None, b"no model"])
def test_unreadable_feature_model_is_one_line_with_code_2(
    evaluated, tmp_path, capsys, content
):
    path = tmp_path / "features.keras"
    if content:
        path.write_bytes(content)
    before = (evaluated / "evaluation.json").read_text()
    arguments = [str(evaluated), "--features", str(path), "--metrics", "sample_quality"]
    assert evaluate.main([*arguments, *FEW]) == 2
    error = capsys.readouterr().err
    assert "--features" in error
    assert error.count("\n") == 1
    assert (evaluated / "evaluation.json").read_text() == before


def test_tensorboard_gets_numbers_and_images_during_training(evaluated):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(
        str(RunFolder(evaluated).logs / "evaluate"), {"tensors": 0}
    ).Reload()
    tags = events.Tags()["tensors"]
    assert "evaluation/conditional_coherence/product/by_number_given/1" in tags
    assert "evaluation/joint_coherence/prior" in tags
    images = {"reconstructions", "imputation", "samples", "traversal"}
    assert {f"evaluation/{name}" for name in images} <= set(tags)
    (value,) = events.Tensors("evaluation/linear_probe/joint/by_number_given/3")
    assert 0 <= tf.make_ndarray(value.tensor_proto) <= 1
    png = events.Tensors("evaluation/samples")[0].tensor_proto.string_val[2]
    assert png.startswith(b"\x89PNG")
