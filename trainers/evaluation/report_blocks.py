"""Parts of the report: sections, blocks and tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from trainers.evaluation.main_numbers import main_numbers

#: Published numbers: metric, then whose, then number of given modalities.
Published = Mapping[str, Mapping[str, Mapping[str, float]]]
#: Tables with more rows than this are folded.
MANY_ROWS = 40


class Cell(NamedTuple):
    """Of a table; `shade` in [0, 1] of a heat map, `own`: the target was given."""

    text: str
    shade: float | None = None
    own: bool = False


class Block(NamedTuple):
    """Part of a section: images, a table, bars, any of them empty."""

    title: str = ""
    images: tuple[Mapping[str, str], ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    bars: tuple[Mapping[str, Any], ...] = ()
    folded: bool = False


class Section(NamedTuple):
    """One metric."""

    name: str
    title: str
    protocol: str
    blocks: tuple[Block, ...]


def number(value: Any, digits: int = 3) -> str:
    """As a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:,.1f}"
    return str(value)


def table(
    rows: Mapping[str, Mapping[str, Any]],
    *,
    title: str = "",
    corner: str = "",
    heat: bool = False,
    folded: bool | None = None,
) -> Block:
    """A table from row name to column name to number.

    Args:
      rows: Rows may lack columns.
      title: Above it.
      corner: Its first column's name.
      heat: Whether numbers are shaded, from the table's least to its largest; a row's
        name ("a+b") says what was given.
      folded: Whether it opens on a click; by default if it is long.
    """
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    values = [v for row in rows.values() for v in row.values() if v is not None]
    low, high = min(values, default=0), max(values, default=1)

    def cell(row: str, column: str) -> Cell:
        value = rows[row].get(column)
        if not heat or value is None:
            return Cell(number(value))
        shade = (value - low) / (high - low) if high > low else 0.5
        return Cell(number(value), shade, column in row.split("+"))

    return Block(
        title=title,
        head=(corner, *columns),
        rows=tuple(
            {"name": row, "cells": [cell(row, column) for column in columns]}
            for row in rows
        ),
        folded=len(rows) > MANY_ROWS if folded is None else folded,
    )


def comparison_table(reports: Mapping[str, Mapping[str, Any]], metric: str) -> Block:
    """Main numbers of one metric, a column a run; counts where they may differ."""
    rows: dict[str, dict[str, Any]] = {}
    for run, report in reports.items():
        entry = report.get(metric, {})
        for count in ("num_rows", "num_samples", "num_train", "seed"):
            if count in entry:
                rows.setdefault(count.replace("_", " "), {})[run] = entry[count]
        for path, value in main_numbers({metric: entry}).items():
            name = path.removeprefix(f"{metric}/").replace("_", " ").replace("/", ", ")
            rows.setdefault(name, {})[run] = value
    return table(rows, folded=False)
