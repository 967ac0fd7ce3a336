"""Imputation, calibration and precision of a run: entries of evaluation.json."""

import numpy as np

from trainers.evaluation.context import Entry, EvaluationContext, first_rows, progress

#: Default number of rows for intervals, and number of draws per row.
CALIBRATION_ROWS, CALIBRATION_SAMPLES = 50, 200
#: Number of training rows of a ridge regression.
RIDGE_ROWS = 5000


def imputation(context: EvaluationContext) -> Entry:
    """Errors of imputed modalities beside the mean's and a ridge regression's."""
    from tf_mopoe.metrics import imputation_error

    table = imputation_error(
        context.model,
        context.train.modalities,
        context.data.modalities,
        num_train=RIDGE_ROWS,
        progress=progress("imputation"),
    )
    # By target, since errors of images and of text have different units.
    errors: dict[tuple[str, str, str], list[float]] = {}
    for subset, row in table.items():
        for target, by_kind in row.items():
            for kind, error in by_kind.items():
                if error is not None:
                    key = (str(subset.count("+") + 1), target, kind)
                    errors.setdefault(key, []).append(error)
    by_number: dict[str, dict[str, dict[str, float]]] = {}
    for (number, target, kind), values in errors.items():
        by_target = by_number.setdefault(number, {}).setdefault(target, {})
        by_target[kind] = float(np.mean(values))
    return context.entry(
        "root mean squared error over rows and elements (for text: share of wrong "
        "symbols) of modalities not given; 'model': decoded from the mean of the given "
        "subset's product of experts; 'mean': the training mean (for text: the most "
        "frequent symbol at each position); 'ridge': the best ridge regression from "
        "one given modality, fitted on the first rows of the training split; means "
        "over subsets of one size",
        *("split", "num_rows"),
        num_train=min(RIDGE_ROWS, len(context.train.labels)),
        by_number_given=by_number,
        by_subset=table,
    )


def calibration(context: EvaluationContext) -> Entry:
    """Coverage of the predictive intervals of imputed modalities."""
    from tf_mopoe.metrics import interval_coverage

    rows = first_rows(context.data, context.options.rows or CALIBRATION_ROWS)
    return context.entry(
        "share of the elements of modalities not given that lie in the central "
        "interval of draws x ~ p(x | z), z from the given subset's product of experts; "
        "a calibrated model's share is the level",
        *("split", "seed"),
        num_rows=len(rows.labels),
        num_samples=CALIBRATION_SAMPLES,
        by_subset=interval_coverage(
            context.model,
            rows.modalities,
            num_samples=CALIBRATION_SAMPLES,
            seed=context.options.seed,
            progress=progress("calibration"),
        ),
    )


def precision_share(context: EvaluationContext) -> Entry:
    """How much each modality contributes to the joint posterior."""
    from tf_mopoe.metrics import precision_share as share

    shares = share(context.model, context.data.modalities)
    return context.entry(
        "each expert's share of the precision of the product of all, mean over rows "
        "and latent dimensions",
        *("split", "num_rows"),
        mean=shares.mean,
        by_dimension=shares.by_dimension,
    )
