"""Imputation, calibration and precision of a run: entries of evaluation.json."""

import numpy as np

from trainers.evaluation.context import Entry, Evaluation, as_json, first_rows, progress

#: Rows, unless the user says how many, and draws of each for intervals.
CALIBRATION_ROWS, CALIBRATION_SAMPLES = 50, 200
#: Training rows of a ridge regression.
RIDGE_ROWS = 5000


def imputation(evaluation: Evaluation) -> Entry:
    """Errors of imputed modalities beside the mean's and a ridge regression's."""
    from tf_mopoe.metrics import imputation_error

    table = imputation_error(
        evaluation.model,
        evaluation.train.modalities,
        evaluation.data.modalities,
        num_train=RIDGE_ROWS,
        progress=progress("imputation"),
    )
    # By target: errors of images and of text have no common unit.
    by_number: dict[str, dict[str, dict[str, list[float]]]] = {}
    for subset, row in table.items():
        number = by_number.setdefault(str(subset.count("+") + 1), {})
        for target, errors in row.items():
            for kind, error in errors.items():
                if error is not None:
                    number.setdefault(target, {}).setdefault(kind, []).append(error)
    return as_json(
        {
            "protocol": "root mean squared error over rows and elements (of text: "
            "share of wrong symbols) of modalities not given; 'model': decoded from "
            "the mean of the given subset's product of experts; 'mean': the training "
            "mean (of text: the most frequent symbol at each place); 'ridge': the best "
            "ridge regression from one given modality, fitted on the first rows of the "
            "training split; means over subsets of one size",
            "split": evaluation.split,
            "num_rows": evaluation.num_rows,
            "num_train": min(RIDGE_ROWS, len(evaluation.train.labels)),
            "by_number_given": {
                number: {
                    target: {kind: np.mean(errors) for kind, errors in kinds.items()}
                    for target, kinds in targets.items()
                }
                for number, targets in by_number.items()
            },
            "by_subset": table,
        }
    )


def calibration(evaluation: Evaluation) -> Entry:
    """Coverage of the predictive intervals of imputed modalities."""
    from tf_mopoe.metrics import interval_coverage

    options = evaluation.options
    rows = first_rows(evaluation.data, options.rows or CALIBRATION_ROWS)
    return as_json(
        {
            "protocol": "share of the elements of modalities not given that lie in the "
            "central interval of draws x ~ p(x | z), z from the given subset's product "
            "of experts; a calibrated model has the level itself",
            "split": evaluation.split,
            "seed": options.seed,
            "num_rows": len(rows.labels),
            "num_samples": CALIBRATION_SAMPLES,
            "by_subset": interval_coverage(
                evaluation.model,
                rows.modalities,
                num_samples=CALIBRATION_SAMPLES,
                seed=options.seed,
                progress=progress("calibration"),
            ),
        }
    )


def precision_share(evaluation: Evaluation) -> Entry:
    """How much each modality contributes to the joint posterior."""
    from tf_mopoe.metrics import precision_share as share

    found = share(evaluation.model, evaluation.data.modalities)
    return as_json(
        {
            "protocol": "each expert's share of the precision of the product of all, "
            "mean over rows and latent dimensions",
            "split": evaluation.split,
            "num_rows": evaluation.num_rows,
            "mean": found.mean,
            "by_dimension": found.by_dimension,
        }
    )
