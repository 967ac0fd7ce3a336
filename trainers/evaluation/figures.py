"""Figures of a trained model: images, and texts in their place."""

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

#: Images `[height, width, channels]`, stacked or listed, or texts.
Row = Sequence[np.ndarray | str] | np.ndarray
#: Number of rows of the data, and of draws from the prior, in a figure.
NUM_ROWS, NUM_DRAWS = 8, 10
#: Number of latent dimensions, and of styles, in a figure.
NUM_DIMENSIONS, NUM_STYLES = 6, 6


def image_grid(rows: Sequence[Row], row_labels: Sequence[str], title: str) -> Figure:
    """Draws images or texts in rows, each row with its label on the left.

    Args:
      rows: Images `[height, width, channels]` in [0, 1], clipped to that; or texts.
      row_labels: One label per row.
      title: Title above the grid.
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
                text = textwrap.fill(content, max(8, round(len(content) ** 0.5)))
                size = 8 if len(content) <= 8 else 3
                style = {"family": "monospace", "parse_math": False, "fontsize": size}
                axis.text(0.5, 0.5, text, ha="center", va="center", **style)
            else:
                axis.imshow(np.clip(content, 0.0, 1.0), cmap="gray", vmin=0, vmax=1)
    figure.suptitle(title, fontsize=11)
    return figure


def to_row(values: np.ndarray) -> Row:
    """Converts a modality's values to images or texts.

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


def reconstructions(model: MultimodalVAE, batch: Mapping, seed: int) -> Figure:
    """Every modality as it is, and from the posterior mean of all."""
    del seed  # nothing is drawn
    outputs = model(batch)
    rows, labels = [], []
    for name in model.modality_names:
        rows += [to_row(batch[name]), to_row(outputs[name])]
        labels += [f"{name} input", "reconstruction"]
    return image_grid(rows, labels, "Input and reconstruction from all modalities")


def imputation(model: MultimodalVAE, batch: Mapping, seed: int) -> Figure:
    """One row's modalities, each imputed from each."""
    names = model.modality_names
    rows: list[Row] = []
    for given in names:
        first = batch[given][:1]
        imputed = model.impute({given: first}, seed=seed)
        rows.append([to_row(first)[0], *(to_row(imputed[x][0])[0] for x in names)])
    title = f"One input (left), then {', '.join(names)} imputed from it"
    return image_grid(rows, [f"given {name}" for name in names], title)


def samples(model: MultimodalVAE, batch: Mapping, seed: int) -> Figure:
    """Draws from the prior."""
    del batch
    draws = model.sample(NUM_DRAWS, seed=seed)
    return image_grid(
        [to_row(draws[name]) for name in model.modality_names],
        model.modality_names,
        "Samples from the prior; a column shares one latent",
    )


def traversal(model: MultimodalVAE, batch: Mapping, seed: int) -> Figure:
    """The first modality of one row as single latent dimensions change."""
    del seed
    name = model.modality_names[0]
    first = {key: batch[key][:1] for key in model.modality_names}
    walk = latent_traversal(
        model, first, num_dimensions=min(NUM_DIMENSIONS, model.latent_dim)
    )
    values = ", ".join(f"{value:g}" for value in walk.values)
    return image_grid(
        [to_row(row) for row in walk.outputs[name]],
        [f"z{dimension}" for dimension in walk.dimensions],
        f"{name}: one dimension of z at a time,\n{values}",
    )


def swapped_styles(model: MultimodalVAE, batch: Mapping, seed: int) -> Figure:
    """The first styled modality: content of the rows, styles of the columns."""
    del seed
    name = next(iter(model.networks.style_experts))
    styles = {key: np.asarray(batch[key][:NUM_STYLES]) for key in model.modality_names}
    inputs = to_row(styles[name])
    rows: list[Row] = [[np.ones_like(inputs[0]), *inputs]]
    for row, image in enumerate(inputs):
        content = {key: value[[row] * len(inputs)] for key, value in styles.items()}
        rows.append([image, *to_row(swap_styles(model, content, styles)[name])])
    labels = [f"{name}, style of", *["content of"] * len(inputs)]
    return image_grid(rows, labels, "Content of the row, style of the column")


def draw_figures(
    model: MultimodalVAE, data: Mapping[str, np.ndarray], *, seed: int = 0
) -> dict[str, Figure]:
    """Draws all figures that suit the model.

    Args:
      model: Model whose modalities are images or text.
      data: Modality name to values as `to_row` takes them; the first 8 rows are used.
      seed: Seed of the draws.

    Returns:
      Names, which are valid file names, to figures.
    """
    rows = {name: data[name][:NUM_ROWS] for name in model.modality_names}
    batch = next(iter(ordered_batches(rows, NUM_ROWS)))
    kinds = [reconstructions, imputation, samples, traversal]
    if any(
        np.ndim(batch[name]) == 4 for name in list(model.networks.style_experts)[:1]
    ):
        kinds.append(swapped_styles)
    return {kind.__name__: kind(model, batch, seed) for kind in kinds}


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a PNG file, completely or not at all, and returns its path."""
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path


def figure_pixels(figure: Figure) -> np.ndarray:
    """Draws the figure as an image, uint8 `[height, width, 4]`."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
