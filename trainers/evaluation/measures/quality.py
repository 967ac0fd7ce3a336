"""Sample quality and figures of a run: entries of evaluation.json."""

from trainers.evaluation.context import Entry, EvaluationContext, first_rows, progress


def sample_quality(context: EvaluationContext) -> Entry:
    """Fréchet distance and PRD of draws, unconditional and conditional."""
    from tf_mopoe.metrics import sample_quality as quality

    options, names = context.options, context.model.modality_names
    count = min(options.num_samples, len(context.data.labels))
    rows = first_rows(context.data, count).modalities

    def measure(title, **kwargs):
        return quality(
            context.model,
            rows,
            context.feature_models,
            num_samples=count,
            seed=options.seed,
            progress=progress(f"sample quality, {title}"),
            **kwargs,
        )

    entry = context.entry(
        "Fréchet distance of features, and PRD's F_8 (recall) and F_1/8 (precision), "
        "of as many draws as rows of the split; 'prior', 'gaussian_mixture', 'flow': "
        "where z is from; 'given_all_others': z from the product of all other "
        "modalities of a row; styles from their prior",
        *("split", "seed", "num_posterior_rows"),
        features="the last layer but one of the classifiers"
        + (f"; of images: {options.features}" if options.features else ""),
        num_rows=count,
        num_samples=count,
    )
    for prior, latents in context.priors.items():
        entry[prior] = measure(prior.replace("_", " "), latents=latents[:count])
    if len(names) > 1:
        entry["given_all_others"] = {}
        for target in names:
            given = [name for name in names if name != target]
            entry["given_all_others"] |= measure(f"{target} given others", given=given)
    return entry


def figures(context: EvaluationContext) -> Entry:
    """Reconstructions, imputations, samples and traversals as PNG files."""
    from trainers.evaluation.figures import draw_figures, save_figure

    seed, folder = context.options.seed, context.run.figures
    folder.mkdir(exist_ok=True)
    drawn = draw_figures(context.model, context.data.modalities, seed=seed)
    return context.entry(
        "the first rows of the split; draws by the seed",
        "seed",
        files=[
            f"{folder.name}/{save_figure(figure, folder / f'{name}.png').name}"
            for name, figure in drawn.items()
        ],
    )
