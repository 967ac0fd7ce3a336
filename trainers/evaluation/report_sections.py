"""The report's sections: from evaluation.json to tables, charts and bars."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainers.evaluation.charts import curves, diagonal, png_address
from trainers.evaluation.main_numbers import NOT_NUMBERS
from trainers.evaluation.report_blocks import (
    Block,
    Published,
    Section,
    comparison_table,
    number,
    table,
)

Entry = Mapping[str, Any]
GIVEN = "number of given modalities"
TITLES = {
    "conditional_coherence": "Conditional coherence",
    "joint_coherence": "Joint coherence",
    "linear_probe": "Latent classification",
    "log_likelihood": "Log-likelihood",
    "log_likelihood_published": "Log-likelihood, the published estimator",
    "sample_quality": "Sample quality",
    "imputation": "Imputation error",
    "calibration": "Calibration",
    "precision_share": "Who says what",
    "figures": "Figures",
}


def cards(report: Entry) -> list[dict[str, str]]:
    """The numbers at the top: value and text."""
    found = []
    coherence = report.get("conditional_coherence")
    if coherence:
        by_number = coherence["product"]["by_number_given"]
        for count in dict.fromkeys([*list(by_number)[:1], *list(by_number)[-1:]]):
            found.append(
                (by_number[count], f"conditional coherence from {count} given")
            )
    if "joint_coherence" in report:
        found.append((report["joint_coherence"]["prior"], "joint coherence, prior"))
        fits = {
            name.replace("_", " "): report["joint_coherence"][name]
            for name in ("gaussian_mixture", "flow")
            if name in report["joint_coherence"]
        }
        for name in sorted(fits, key=fits.__getitem__)[-1:]:
            found.append((fits[name], f"joint coherence, fitted {name}"))
    if "linear_probe" in report:
        by_number = report["linear_probe"]["per_subset"]["by_number_given"]
        found.append((list(by_number.values())[-1], "linear probe, all given"))
    if "log_likelihood" in report:
        found.append(
            (report["log_likelihood"]["joint"]["mean"], "log p(X), nats a row")
        )
    return [{"value": number(value), "text": text} for value, text in found]


def of_run(report: Entry, published: Published, folder: Path) -> list[Section]:
    """A section for each metric that was measured; `folder` is the run's."""
    report = dict(report)
    if "figures" in report:
        files = [folder / name for name in report["figures"]["files"]]
        report["figures"] = {**report["figures"], "files": files}
    return [
        Section(name, TITLES[name], _protocol(report[name]), tuple(blocks))
        for name, make in SECTIONS.items()
        if name in report
        and (blocks := make(report[name], published.get(name, {}))) is not None
    ]


def _protocol(entry: Entry) -> str:
    counts = [
        f"{count.replace('_', ' ')} {entry[count]}"
        for count in (
            "split",
            "num_rows",
            "num_samples",
            "num_train",
            "seed",
            "seconds",
        )
        if count in entry
    ]
    text = str(entry.get("protocol", ""))
    return f"{text[:1].upper()}{text[1:]}. {', '.join(counts).capitalize()}."


def of_runs(reports: Mapping[str, Entry], published: Published) -> list[Section]:
    """Runs side by side: curves, then a table, for each metric."""
    found = []
    for name in TITLES:
        having = {run: report for run, report in reports.items() if name in report}
        if not having or name == "figures":
            continue
        part = {"conditional_coherence": "product", "linear_probe": "per_subset"}
        blocks = []
        if name in part:
            lines = {
                run: report[name][part[name]]["by_number_given"]
                for run, report in having.items()
            }
            blocks.append(
                _chart(lines, published.get(name, {}), f"{TITLES[name]} ({part[name]})")
            )
        blocks.append(comparison_table(having, name))
        text = str(next(iter(having.values()))[name].get("protocol", ""))
        protocol = f"{text[:1].upper()}{text[1:]}."
        found.append(Section(name, TITLES[name], protocol, tuple(blocks)))
    return found


def _chart(lines, published, y_label: str) -> Block:
    source = curves(lines, published, x_label=GIVEN, y_label=y_label)
    return Block(images=({"source": source, "text": f"{y_label} by {GIVEN}"},))


def _conditional_coherence(entry: Entry, published) -> list[Block]:
    readings = [
        name for name in ("product", "mixture", "product_mean") if name in entry
    ]
    lines = {
        name.replace("_", ", "): entry[name]["by_number_given"] for name in readings
    }
    scores = entry["classifier_test_accuracy"]
    blocks = [
        _chart(lines, published, f"{entry['score']}, targets not given"),
        table(
            {entry.get("score", "accuracy"): scores},
            title="The classifiers themselves, on real rows",
        ),
    ]
    for name in readings:
        blocks.append(
            table(
                entry[name]["by_subset"],
                title=f"Given (rows) and target (columns), {name.replace('_', ', ')}; "
                "dashed: the target was given",
                corner="given",
                heat=True,
                folded=name != "product" or None,
            )
        )
        if "by_attribute" in entry[name]:
            blocks += [
                table(
                    _transposed(row),
                    title=f"Average precision by attribute, given {subset}, {name}",
                    corner="attribute",
                    heat=True,
                    folded=True,
                )
                for subset, row in entry[name]["by_attribute"].items()
            ]
    return blocks


def _transposed(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return {name: {key: row.get(name) for key, row in rows.items()} for name in names}


def _joint_coherence(entry: Entry, _) -> list[Block]:
    draws = {k: v for k, v in entry.items() if k not in {*NOT_NUMBERS, "protocol"}}
    return [_bars(draws)]


def _bars(values: Mapping[str, float | None], title: str = "") -> Block:
    return Block(
        title=title,
        bars=tuple(
            {"name": name.replace("_", " "), "share": value or 0, "text": number(value)}
            for name, value in values.items()
        ),
    )


def _linear_probe(entry: Entry, published) -> list[Block]:
    protocols = [name for name in ("per_subset", "joint") if name in entry]
    return [
        _chart(
            {
                f"{n.replace('_', ' ')} probe": entry[n]["by_number_given"]
                for n in protocols
            },
            published,
            entry.get("score", "accuracy"),
        ),
        table(
            _transposed(
                {n.replace("_", " "): entry[n]["by_subset"] for n in protocols}
            ),
            title="By subset",
            corner="given",
            heat=True,
            folded=True,
        ),
    ]


def _log_likelihood(entry: Entry, _) -> list[Block]:
    rows = {"joint": entry["joint"]}
    for target, values in entry.get("given_all_others", {}).items():
        rows[f"{target} given all others"] = values
    return [table({k: _readable(v) for k, v in rows.items()}, corner="nats a row")]


def _readable(row: Entry) -> dict[str, Any]:
    return {name.replace("_", " "): value for name, value in row.items()}


def _sample_quality(entry: Entry, _) -> list[Block]:
    sources = {
        k: v for k, v in entry.items() if isinstance(v, Mapping) and k != "options"
    }
    names = {
        "frechet_distance": "Fréchet distance (less is better)",
        "f8": "PRD: F_8, recall",
        "f1_8": "PRD: F_1/8, precision",
    }
    return [
        table(
            {
                source.replace("_", " "): {m: q[key] for m, q in modalities.items()}
                for source, modalities in sources.items()
            },
            title=title,
            corner="z from",
            folded=False,
        )
        for key, title in names.items()
    ]


def _imputation(entry: Entry, _) -> list[Block]:
    by_subset = {
        f"{subset} → {target}": errors
        for subset, row in entry["by_subset"].items()
        for target, errors in row.items()
    }
    return [
        table(
            {
                f"{target}, {count} given": errors
                for count, targets in entry["by_number_given"].items()
                for target, errors in targets.items()
            },
            corner="target",
        ),
        table(by_subset, title="By subset and target", corner="given", folded=True),
    ]


def _calibration(entry: Entry, _) -> list[Block]:
    lines: dict[str, dict[str, list[float]]] = {}
    rows: dict[str, dict[str, Any]] = {}
    for subset, targets in entry["by_subset"].items():
        for target, levels in targets.items():
            row = rows.setdefault(f"{subset} → {target}", {})
            for level, found in levels.items():
                row[f"inside {level}"] = found["coverage"]
                row[f"width {level}"] = found["width"]
                if found["coverage"] is not None:
                    kind = lines.setdefault(f"{subset.count('+') + 1} given", {})
                    kind.setdefault(level, []).append(found["coverage"])
    means = {
        kind: {level: sum(s) / len(s) for level, s in values.items()}
        for kind, values in lines.items()
    }
    if not means:
        return [Block(title="No modality has ordered values.")]
    source = diagonal(means, x_label="level", y_label="share inside")
    return [
        Block(images=({"source": source, "text": "coverage of predictive intervals"},)),
        table(rows, title="By subset and target", corner="given", folded=True),
    ]


def _precision_share(entry: Entry, _) -> list[Block]:
    return [_bars(entry["mean"], "Share of the joint posterior's precision")]


def _figures(entry: Entry, _) -> list[Block] | None:
    images = tuple(
        {
            "source": png_address(Path(path).read_bytes()),
            "text": Path(path).stem.replace("_", " "),
        }
        for path in entry["files"]
        if Path(path).is_file()
    )
    return [Block(images=(image,)) for image in images] or None


SECTIONS: dict[str, Callable[[Entry, Mapping], list[Block] | None]] = {
    "conditional_coherence": _conditional_coherence,
    "joint_coherence": _joint_coherence,
    "linear_probe": _linear_probe,
    "log_likelihood": _log_likelihood,
    "log_likelihood_published": _log_likelihood,
    "sample_quality": _sample_quality,
    "imputation": _imputation,
    "calibration": _calibration,
    "precision_share": _precision_share,
    "figures": _figures,
}
