"""Figures of a trained model: images, and text in their place."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tf_mopoe.data import decode_text, ordered_batches
from tf_mopoe.metrics import latent_traversal, swap_styles
from tf_mopoe.models import MultimodalVAE
from trainers.runs.atomic_files import replacing

#: What is in a row: images `[height, width, channels]`, stacked or listed, or texts.
Row = Sequence[np.ndarray | str] | np.ndarray
#: Rows of the data, and draws from the prior, in a figure.
NUM_ROWS, NUM_DRAWS = 8, 10
#: Latent dimensions and styles in a figure.
NUM_DIMENSIONS, NUM_STYLES = 6, 6


def image_grid(rows: Sequence[Row], row_labels: Sequence[str], title: str) -> Figure:
    """Draws images or texts in rows, each row with its label on the left.

    Args:
      rows: Images `[height, width, channels]` in [0, 1], clipped to that; or texts.
      row_labels: One for each row.
      title: Above the grid.
    """
    columns = max(len(row) for row in rows)
    figure = Figure(
        figsize=(0.7 * columns + 1.8, 0.7 * len(rows) + 0.6), layout="constrained"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    for row, label, row_axes in zip(rows, row_labels, axes, strict=True):
        row_axes[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for content, axis in zip(row, row_axes):
            if isinstance(content, str):
                _write_text(axis, content)
            else:
                axis.imshow(np.clip(content, 0.0, 1.0), cmap="gray", vmin=0, vmax=1)
    figure.suptitle(title, fontsize=11)
    return figure


def _write_text(axis, content: str) -> None:
    axis.text(
        0.5,
        0.5,
        textwrap.fill(content, max(8, round(len(content) ** 0.5))),
        ha="center",
        va="center",
        fontsize=8 if len(content) <= 8 else 3,
        family="monospace",
        parse_math=False,
    )


def shown(values: np.ndarray) -> Row:
    """What stands for a modality's values in a figure.

    Args:
      values: Images `[N, height, width, channels]`, uint8 or in [0, 1]; or text: class
        indices `[N, L]`, or their probabilities `[N, L, C]`.

    Returns:
      N images in [0, 1], or N strings.
    """
    values = np.asarray(values)
    if values.ndim == 4:
        return values / 255.0 if values.dtype == np.uint8 else values
    return decode_text(values if values.ndim == 2 else values.argmax(axis=-1))


def reconstructions(model: MultimodalVAE, few: Mapping, seed: int) -> Figure:
    """Every modality as it is, and from the posterior mean of all."""
    del seed  # nothing is drawn
    reconstructed = model(few)
    rows: list[Row] = []
    for name in model.modality_names:
        rows += [shown(few[name]), shown(reconstructed[name])]
    labels = [
        label
        for name in model.modality_names
        for label in (f"{name} input", "reconstruction")
    ]
    return image_grid(rows, labels, "Input and reconstruction from all modalities")


def imputation(model: MultimodalVAE, few: Mapping, seed: int) -> Figure:
    """One row's modalities, each imputed from each."""
    names = model.modality_names
    first = {name: few[name][:1] for name in names}
    imputed = {name: model.impute({name: first[name]}, seed=seed) for name in names}
    return image_grid(
        [
            [
                shown(first[given])[0],
                *(shown(imputed[given][name][0])[0] for name in names),
            ]
            for given in names
        ],
        [f"given {name}" for name in names],
        f"One input (left), then {', '.join(names)} imputed from it",
    )


def samples(model: MultimodalVAE, few: Mapping, seed: int) -> Figure:
    """Draws from the prior."""
    del few
    drawn = model.sample(NUM_DRAWS, seed=seed)
    return image_grid(
        [shown(drawn[name]) for name in model.modality_names],
        model.modality_names,
        "Samples from the prior; a column shares one latent",
    )


def traversal(model: MultimodalVAE, few: Mapping, seed: int) -> Figure:
    """The first modality of one row as single latent dimensions change."""
    del seed
    name = model.modality_names[0]
    first = {key: few[key][:1] for key in model.modality_names}
    walk = latent_traversal(
        model, first, num_dimensions=min(NUM_DIMENSIONS, model.latent_dim)
    )
    values = ", ".join(f"{value:g}" for value in walk.values)
    return image_grid(
        [shown(row) for row in walk.outputs[name]],
        [f"z{dimension}" for dimension in walk.dimensions],
        f"{name}: one dimension of z at a time,\n{values}",
    )


def swapped_styles(model: MultimodalVAE, few: Mapping, seed: int) -> Figure:
    """The first styled modality: content of the rows, styles of the columns."""
    del seed
    name = next(iter(model.style_experts))
    some = {key: few[key][:NUM_STYLES] for key in model.modality_names}
    count = len(some[name])
    inputs = shown(some[name])
    rows: list[Row] = [[np.ones_like(inputs[0]), *inputs]]
    for row in range(count):
        content = {key: value[[row] * count] for key, value in _arrays(some).items()}
        swapped = swap_styles(model, content, some)[name]
        rows.append([inputs[row], *shown(swapped)])
    labels = [f"{name}, style of", *["content of"] * count]
    return image_grid(rows, labels, "Content of the row, style of the column")


def _arrays(batch: Mapping) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in batch.items()}


def draw_figures(
    model: MultimodalVAE, data: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, Figure]:
    """Draws all figures that the model has.

    Args:
      model: The model; its modalities are images or text.
      data: Modality name to what `shown` takes, of N rows; the first 8 are used.
      seed: Seed of the draws.

    Returns:
      Names, as files may have them, to figures.
    """
    names = model.modality_names
    rows = {name: data[name][:NUM_ROWS] for name in names}
    few = next(iter(ordered_batches(rows, NUM_ROWS)))
    kinds = [reconstructions, imputation, samples, traversal]
    if any(np.ndim(few[name]) == 4 for name in list(model.style_experts)[:1]):
        kinds.append(swapped_styles)
    return {kind.__name__: kind(model, few, seed) for kind in kinds}


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a PNG file, all of it or nothing, and returns its path."""
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def figure_pixels(figure: Figure) -> np.ndarray:
    """The figure as an image, uint8 `[height, width, 4]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
