"""Sample quality and figures of a run: entries of evaluation.json."""

from trainers.evaluation.context import Entry, Evaluation, as_json, first_rows, progress


def sample_quality(evaluation: Evaluation) -> Entry:
    """Fréchet distance and PRD of draws, unconditional and conditional."""
    from tf_mopoe.metrics import sample_quality as quality

    options, names = evaluation.options, evaluation.model.modality_names
    count = min(options.num_samples, evaluation.num_rows)

    def measure(title, **kwargs):
        return quality(
            evaluation.model,
            first_rows(evaluation.data, count).modalities,
            evaluation.feature_models,
            num_samples=count,
            seed=options.seed,
            progress=progress(f"sample quality, {title}"),
            **kwargs,
        )

    entry: Entry = {
        "protocol": "Fréchet distance of features, and PRD's F_8 (recall) and F_1/8 "
        "(precision), of as many draws as rows of the split; 'prior', "
        "'gaussian_mixture', 'flow': where z is from; 'given_all_others': z from the "
        "product of all other modalities of a row; styles from their prior",
        "features": "the layer before the last of the classifiers"
        + (f"; of images: {options.features}" if options.features else ""),
        "split": evaluation.split,
        "seed": options.seed,
        "num_rows": count,
        "num_samples": count,
        "num_posterior_rows": evaluation.num_posterior_rows,
    }
    for prior, latents in evaluation.priors.items():
        title = prior.replace("_", " ")
        entry[prior] = measure(title, latents=latents[:count])
    if len(names) > 1:
        entry["given_all_others"] = {}
        for target in names:
            given = [name for name in names if name != target]
            entry["given_all_others"] |= measure(f"{target} given others", given=given)
    return as_json(entry)


def figures(evaluation: Evaluation) -> Entry:
    """Reconstructions, imputations, samples, traversals as PNG files."""
    from trainers.evaluation.figures import draw_figures, save_figure

    seed, folder = evaluation.options.seed, evaluation.run.figures
    folder.mkdir(exist_ok=True)
    drawn = draw_figures(evaluation.model, evaluation.data.modalities, seed=seed)
    return {
        "protocol": "the first rows of the split; draws by the seed",
        "seed": seed,
        "files": [
            f"{folder.name}/{save_figure(figure, folder / f'{name}.png').name}"
            for name, figure in drawn.items()
        ],
    }
