"""Log-likelihoods of a run: entries of evaluation.json."""

import numpy as np

from trainers.evaluation.context import (
    Entry,
    Evaluation,
    as_batch,
    as_json,
    first_rows,
    progress,
)

#: Rows, unless the user says how many: one costs thousands of decoder runs.
LIKELIHOOD_ROWS = 50


def log_likelihood(evaluation: Evaluation) -> Entry:
    """Joint, and of every modality given all others; nats."""
    return _log_likelihood(
        evaluation,
        "mixture",
        "importance-sampled log p, nats, mean over rows; K draws a row, proposal the "
        "mixture of what is given, with its true density; 'joint': log p(X); "
        "'given_all_others': log p(x_t | others) = log p(X) - log p(others), each "
        "estimated with a proposal of its own. Above log p by chance, below it on "
        "average: the smaller the effective sample size, the further; where that is "
        "below about 10, the standard error of draws is too small",
    )


def log_likelihood_published(evaluation: Evaluation) -> Entry:
    """The published code's estimator, for comparison with published tables only."""
    return _log_likelihood(
        evaluation,
        "published",
        "the published code's estimator, nats, mean over rows: it averages over the "
        "rows of a batch and is not log p; for comparison with published tables only",
    )


def _log_likelihood(evaluation: Evaluation, proposal: str, protocol: str) -> Entry:
    model, options = evaluation.model, evaluation.options
    data = first_rows(evaluation.data, options.rows or LIKELIHOOD_ROWS).modalities
    batch = as_batch(data)

    def estimate(names, number):
        return model.log_likelihood_estimate(
            {name: batch[name] for name in names},
            num_samples=options.num_samples,
            proposal=proposal,
            seed=(options.seed + number) % 2**31,  # so that errors are independent
        )

    names = model.modality_names
    entry: Entry = {
        "protocol": protocol,
        "split": evaluation.split,
        "seed": options.seed,
        "num_rows": len(next(iter(data.values()))),
        "num_samples": options.num_samples,
    }
    subsets = [names]
    if proposal != "published" and len(names) > 1:
        subsets += [tuple(n for n in names if n != target) for target in names]
    found = [
        estimate(subset, number)
        for number, subset in enumerate(progress("log-likelihood")(subsets))
    ]
    entry["joint"] = _summary(found[0].log_likelihood, [found[0]])
    if len(subsets) > 1:
        entry["given_all_others"] = {
            target: _summary(
                found[0].log_likelihood - others.log_likelihood, [found[0], others]
            )
            for target, others in zip(names, found[1:])
        }
    return as_json(entry)


def _summary(values, estimates) -> Entry:
    """Mean over rows; its standard errors, from the draws alone and with the rows."""
    values = np.asarray(values, np.float64)
    variance = sum(np.square(np.asarray(e.standard_error)) for e in estimates)
    size = np.min([np.asarray(e.effective_sample_size) for e in estimates], axis=0)
    return {
        "mean": values.mean(),
        "standard_error_of_draws": np.sqrt(np.sum(variance)) / len(values),
        "standard_error": values.std(ddof=1) / np.sqrt(len(values))
        if len(values) > 1
        else None,
        "median_effective_sample_size": np.median(size),
    }
