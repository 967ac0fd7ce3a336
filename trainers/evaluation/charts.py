"""Charts of the report, as images inside the page."""

import base64
import io
from collections.abc import Mapping

import matplotlib
from matplotlib.figure import Figure

#: Name of a line to number of given modalities to value.
Lines = Mapping[str, Mapping[str, float | None]]


def curves(lines: Lines, published: Lines, *, x_label: str, y_label: str) -> str:
    """Lines by number of given modalities, published ones dashed.

    Returns:
      An address that holds the image itself (`data:`).
    """
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axis = figure.subplots()
    for name, values in lines.items():
        axis.plot(*_points(values), marker="o", label=_label(name))
    for index, (name, values) in enumerate(published.items()):
        shade = str(0.35 + 0.15 * (index % 3))
        axis.plot(
            *_points(values), "--", marker=".", color=shade, label=f"published: {name}"
        )
    counts = sorted({int(n) for values in lines.values() for n in values})
    axis.set_xticks(counts)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=1, frameon=False)
    return svg_address(figure)


def diagonal(lines: Lines, *, x_label: str, y_label: str) -> str:
    """Lines beside the diagonal, which is right; see `curves`."""
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], ":", color="0.5", label="calibrated")
    for name, values in lines.items():
        pairs = [(float(x), y) for x, y in values.items() if y is not None]
        axis.plot(*zip(*pairs), marker="o", label=_label(name))
    axis.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2, frameon=False)
    return svg_address(figure)


def _label(name: str) -> str:
    """As it is: Matplotlib reads mathematics between dollars and hides `_...`."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _points(values: Mapping[str, float | None]) -> tuple[list[int], list[float]]:
    pairs = [(int(n), value) for n, value in values.items() if value is not None]
    return [n for n, _ in pairs], [value for _, value in pairs]


def svg_address(figure: Figure) -> str:
    """The figure as SVG, in a `data:` address."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return _address("svg+xml", content.getvalue())


def png_address(content: bytes) -> str:
    """The content of a PNG file in a `data:` address."""
    return _address("png", content)


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
