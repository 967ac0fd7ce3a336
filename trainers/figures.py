"""Figures of a trained model on image modalities."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tf_mopoe.models import MultimodalVAE
from trainers.run_folder import replacing

Images = Mapping[str, np.ndarray]
#: Images in a row: a list, or stacked `[columns, height, width, channels]`.
Row = Sequence[np.ndarray] | np.ndarray


def image_grid(
    rows: Sequence[Row],
    row_labels: Sequence[str],
    title: str,
    path: str | os.PathLike[str],
) -> None:
    """Writes a PNG of images in rows, each row with its label on the left.

    Args:
      rows: Images `[height, width, channels]` in [0, 1]; clipped to that.
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
        for image, axis in zip(row, row_axes):
            axis.imshow(np.clip(image, 0.0, 1.0))
    figure.suptitle(title, fontsize=11)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def write_figures(
    model: MultimodalVAE, images: Images, folder: Path, *, seed: int = 0
) -> list[Path]:
    """Writes reconstructions.png, imputation.png and samples.png.

    Args:
      model: The model; its modalities are images.
      images: Modality name to `[N, height, width, channels]` in [0, 1], N at least 8.
      folder: Where to; made if need be.
      seed: Of the draws.

    Returns:
      The files' paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = model.modality_names
    paths = [folder / f"{name}.png" for name in FIGURES]
    few = {name: images[name][:8] for name in names}
    reconstructed = model(few)
    rows: list[Row] = []
    for name in names:
        rows += [few[name], np.array(reconstructed[name])]
    labels = [label for name in names for label in (f"{name} input", "reconstruction")]
    image_grid(rows, labels, "Input and reconstruction from all modalities", paths[0])

    first = {name: images[name][:1] for name in names}
    imputed = {name: model.impute({name: first[name]}, seed=seed) for name in names}
    rows = [
        [first[given][0], *(np.array(imputed[given][name][0, 0]) for name in names)]
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
        [np.array(samples[name]) for name in names],
        names,
        "Samples from the prior; a column shares one latent",
        paths[2],
    )
    return paths


#: Names of the files that `write_figures` writes, without ".png".
FIGURES = ("reconstructions", "imputation", "samples")
