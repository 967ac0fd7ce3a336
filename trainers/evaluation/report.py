"""report.html and comparison.html: numbers and figures on pages of their own.

The pages are Jinja templates over the content of evaluation.json. To show a measure in
another way than by a table of its main numbers, add a macro of its name to
`templates/sections.html.jinja`.
"""

import base64
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainers.errors import RunError, UsageError
from trainers.evaluation.main_numbers import COUNTS, main_numbers
from trainers.evaluation.measures import MEASURES
from trainers.runs.atomic_files import replacing
from trainers.runs.run_folder import RunFolder

#: Published numbers: metric, then source, then number of given modalities.
Published = Mapping[str, Mapping[str, Mapping[str, float]]]
#: Rows of a table: row name to column name to number.
Rows = Mapping[str, Mapping[str, Any]]


def write_report(
    run: RunFolder, report: Mapping[str, Any], published: Published
) -> None:
    """Writes RUN/report.html, which needs no other file.

    Args:
      run: The run's folder.
      report: Content of its evaluation.json.
      published: Published numbers, drawn beside the curves.

    Raises:
      RunError: If an earlier entry of evaluation.json is damaged.
    """
    import jinja2

    try:
        page = _render("run.html.jinja", run=run, report=report, published=published)
    except (jinja2.UndefinedError, AttributeError, KeyError, TypeError):
        raise RunError(
            f"{run.evaluation_file} is damaged: delete it, and measure again."
        ) from None
    _write(run.report_file, page)


def write_comparison(
    path: str | os.PathLike[str],
    reports: Mapping[str, Mapping[str, Any]],
    published: Published,
) -> None:
    """Writes one page with several runs side by side.

    Args:
      path: Path of the page.
      reports: Name of a run to the content of its evaluation.json.
      published: Published numbers, drawn beside the curves.

    Raises:
      UsageError: If the page can't be written.
    """
    page = _render("comparison.html.jinja", reports=reports, published=published)
    try:
        _write(Path(path), page)
    except OSError as error:
        raise UsageError(f"--compare: can't write {path}: {error.strerror}.") from None


def _write(path: Path, page: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _render(template: str, **content: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainers.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": _format_number, "label": _label}
    helpers = [
        *(png_address, mean_coverage, columns, shade),
        *(transposed, labelled, select, flattened, plucked, numbers, counts),
        *(having, compared),
    ]
    environment.globals |= {helper.__name__: helper for helper in helpers}
    environment.globals["measures"] = list(MEASURES)
    return environment.get_template(template).render(**content)


def png_address(path: Path) -> str | None:
    """Returns a PNG file in a `data:` address, or None if it does not exist."""
    if not path.is_file():
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _label(name: str) -> str:
    return name.replace("_", " ").replace("/", ", ")


def _format_number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)


def columns(rows: Rows) -> list[str]:
    """Names of all columns; rows may lack some."""
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def shade(rows: Rows, value: float) -> float:
    """Position of a value between the table's smallest, 0, and its largest, 1."""
    values = [v for row in rows.values() for v in row.values() if v is not None]
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.5


def transposed(rows: Rows) -> Rows:
    """Columns as rows."""
    return {
        name: {key: row.get(name) for key, row in rows.items()}
        for name in columns(rows)
    }


def mean_coverage(by_subset: Mapping[str, Any]) -> Rows:
    """Coverage of intervals by number of given modalities, then level."""
    coverages: dict[str, dict[str, list[float]]] = {}
    for subset, targets in by_subset.items():
        line = coverages.setdefault(f"{subset.count('+') + 1} given", {})
        for levels in targets.values():
            for level, interval in levels.items():
                if interval["coverage"] is not None:
                    line.setdefault(level, []).append(interval["coverage"])
    return {
        name: {level: sum(x) / len(x) for level, x in line.items()}
        for name, line in coverages.items()
        if line
    }


def labelled(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Rows with names to read instead of identifiers."""
    return {_label(name): row for name, row in rows.items()}


def select(entry: Mapping[str, Any], names: Iterable[str], key: str) -> Rows:
    """Part `key` of those of the named parts that the entry has."""
    return labelled({name: entry[name][key] for name in names if name in entry})


def flattened(nested: Mapping[str, Rows], form: str) -> Rows:
    """Rows of two levels as rows of one; `form` makes a name of both names."""
    return {
        form.format(outer, inner): row
        for outer, rows in nested.items()
        for inner, row in rows.items()
    }


def plucked(rows: Mapping[str, Any], key: str) -> Rows:
    """Number `key` of each cell."""
    return {
        name: {column: cell[key] for column, cell in row.items()}
        for name, row in rows.items()
        if isinstance(row, Mapping) and name != "options"
    }


def numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """The main numbers of an entry."""
    flat = main_numbers({"": entry})
    return labelled({path.removeprefix("/"): x for path, x in flat.items()})


def counts(entry: Mapping[str, Any]) -> str:
    """Split, counts and seed of an entry, as a sentence."""
    names = [name for name in ("split", *COUNTS, "seconds") if name in entry]
    return ", ".join(f"{_label(name)} {entry[name]}" for name in names).capitalize()


def having(reports: Mapping[str, Mapping], metric: str) -> dict[str, Mapping]:
    """Name of each run that has the metric to its entry."""
    return {run: report[metric] for run, report in reports.items() if metric in report}


def compared(entries: Mapping[str, Mapping]) -> Rows:
    """Counts and main numbers of one metric, a column per run."""
    return transposed(
        {
            run: labelled({name: entry[name] for name in COUNTS if name in entry})
            | numbers(entry)
            for run, entry in entries.items()
        }
    )
