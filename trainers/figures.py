"""Figures of a trained model: images, and text in their place."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tf_mopoe.data import decode_text, ordered_batches
from tf_mopoe.models import MultimodalVAE
from trainers.run_folder import replacing

#: What is in a row: images `[height, width, channels]`, stacked or listed, or texts.
Row = Sequence[np.ndarray | str] | np.ndarray


def image_grid(
    rows: Sequence[Row],
    row_labels: Sequence[str],
    title: str,
    path: str | os.PathLike[str],
) -> None:
    """Writes a PNG of images or texts in rows, each row with its label on the left.

    Args:
      rows: Images `[height, width, channels]` in [0, 1], clipped to that; or texts.
      row_labels: One for each row.
      title: Above the grid.
      path: Of the PNG file.
    """
    columns = max(len(row) for row in rows)
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(0.7 * columns + 1.8, 0.7 * len(rows) + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    for row, label, row_axes in zip(rows, row_labels, axes, strict=True):
        row_axes[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for content, axis in zip(row, row_axes):
            if isinstance(content, str):
                lines = textwrap.fill(content, max(8, round(len(content) ** 0.5)))
                size = 8 if len(content) <= 8 else 3
                axis.text(
                    0.5,
                    0.5,
                    lines,
                    ha="center",
                    va="center",
                    fontsize=size,
                    family="monospace",
                    parse_math=False,
                )
            else:
                axis.imshow(np.clip(content, 0.0, 1.0), cmap="gray", vmin=0, vmax=1)
    figure.suptitle(title, fontsize=11)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


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


def write_figures(
    model: MultimodalVAE, data: Mapping[str, np.ndarray], folder: Path, *, seed: int = 0
) -> list[Path]:
    """Writes reconstructions.png, imputation.png and samples.png.

    Args:
      model: The model; its modalities are images or text.
      data: Modality name to what `shown` takes, of N rows; the first 8 are used.
      folder: Where to; made if need be.
      seed: Of the draws.

    Returns:
      The files' paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = model.modality_names
    paths = [folder / f"{name}.png" for name in FIGURES]
    few = next(iter(ordered_batches({name: data[name][:8] for name in names}, 8)))
    reconstructed = model(few)
    rows: list[Row] = []
    for name in names:
        rows += [shown(few[name]), shown(reconstructed[name])]
    labels = [label for name in names for label in (f"{name} input", "reconstruction")]
    image_grid(rows, labels, "Input and reconstruction from all modalities", paths[0])

    first = {name: few[name][:1] for name in names}
    imputed = {name: model.impute({name: first[name]}, seed=seed) for name in names}
    rows = [
        [shown(first[given])[0], *(shown(imputed[given][name][0])[0] for name in names)]
        for given in names
    ]
    image_grid(
        rows,
        [f"given {name}" for name in names],
        f"One input (left), then {', '.join(names)} imputed from it",
        paths[1],
    )

    samples = model.sample(10, seed=seed)
    image_grid(
        [shown(samples[name]) for name in names],
        names,
        "Samples from the prior; a column shares one latent",
        paths[2],
    )
    return paths


#: Names of the files that `write_figures` writes, without ".png".
FIGURES = ("reconstructions", "imputation", "samples")
