"""report.html: the numbers and figures of a run, or of several, on one page."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.errors import RunError, UsageError
from trainers.evaluation import report_sections as sections
from trainers.evaluation.report_blocks import Published
from trainers.runs.atomic_files import replacing
from trainers.runs.run_folder import RunFolder


def write_report(run: RunFolder, report: Mapping[str, Any], published: Published):
    """Writes RUN/report.html, which needs no other file.

    Raises:
      RunError: If an earlier entry of evaluation.json is damaged.
    """
    try:
        found = sections.of_run(report, published, run.path)
        top = sections.cards(report)
    except (AttributeError, IndexError, KeyError, TypeError):
        raise RunError(
            f"{run.evaluation_file} is damaged: delete it, and measure anew."
        ) from None

    facts = ", ".join(
        f"{name.replace('_', ' ')} {report[name]}"
        for name in ("model", "split", "steps", "tf_mopoe")
        if name in report
    )
    _write(
        run.report_file,
        title=f"Evaluation of {run.path.name or run.path} ({report.get('recipe', '')})",
        facts=facts,
        cards=top,
        sections=found,
    )


def write_comparison(
    path: str | os.PathLike[str],
    reports: Mapping[str, Mapping[str, Any]],
    published: Published,
) -> None:
    """Writes one page with several runs side by side.

    Args:
      path: Of the page.
      reports: A run's name to its evaluation.json.
      published: Beside the curves.

    Raises:
      UsageError: If the page can't be written.
    """
    try:
        _write(
            Path(path),
            title=f"Comparison of {len(reports)} runs",
            facts="; ".join(
                f"{name}: {report.get('model')}, {report.get('steps')} steps"
                for name, report in reports.items()
            ),
            cards=[],
            sections=sections.of_runs(reports, published),
        )
    except OSError as error:
        raise UsageError(f"--compare: can't write {path}: {error.strerror}.") from None


def _write(path: Path, **content) -> None:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainers.evaluation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("report.html.jinja").render(**content)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
