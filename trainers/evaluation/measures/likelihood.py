"""Log-likelihoods of a run: entries of evaluation.json."""

import numpy as np

from trainers.evaluation.context import Entry, EvaluationContext, first_rows, progress

#: Default number of rows: each costs thousands of decoder runs.
LIKELIHOOD_ROWS = 50


def log_likelihood(context: EvaluationContext) -> Entry:
    """Log-likelihood, joint and of every modality given all others, in nats."""
    return _log_likelihood(
        context,
        "mixture",
        "importance-sampled log p, nats, mean over rows; K draws per row, proposal the "
        "mixture of what is given, with its true density; 'joint': log p(X); "
        "'given_all_others': log p(x_t | others) = log p(X) - log p(others), each "
        "estimated with a proposal of its own. Above log p by chance, below it on "
        "average: the smaller the effective sample size, the further; where that is "
        "below about 10, the standard error of draws is too small",
    )


def log_likelihood_published(context: EvaluationContext) -> Entry:
    """The published code's estimator, for comparison with published tables only."""
    return _log_likelihood(
        context,
        "published",
        "the published code's estimator, nats, mean over rows: it averages over the "
        "rows of a batch and is not log p; for comparison with published tables only",
    )


def _log_likelihood(context: EvaluationContext, proposal: str, protocol: str) -> Entry:
    from tf_mopoe.data import ordered_batches

    model, options = context.model, context.options
    rows = first_rows(context.data, options.rows or LIKELIHOOD_ROWS)
    count = len(rows.labels)
    batch = next(iter(ordered_batches(rows.modalities, count)))
    names = model.modality_names
    subsets = [names]
    if proposal != "published" and len(names) > 1:
        subsets += [tuple(n for n in names if n != target) for target in names]
    joint, *others = (
        model.log_likelihood_estimate(
            {name: batch[name] for name in subset},
            num_samples=options.num_samples,
            proposal=proposal,
            seed=(options.seed + number) % 2**31,  # so that errors are independent
        )
        for number, subset in enumerate(progress("log-likelihood")(subsets))
    )
    parts = {"joint": _summary(joint.log_likelihood, [joint])}
    if others:
        parts["given_all_others"] = {
            target: _summary(joint.log_likelihood - x.log_likelihood, [joint, x])
            for target, x in zip(names, others)
        }
    return (
        context.entry(
            protocol, "split", "seed", num_rows=count, num_samples=options.num_samples
        )
        | parts
    )


def _summary(values, estimates) -> Entry:
    """Mean over rows; its standard errors, from the draws alone and with the rows."""
    values = np.asarray(values, np.float64)
    variance = sum(np.square(np.asarray(e.standard_error)) for e in estimates)
    size = np.min([np.asarray(e.effective_sample_size) for e in estimates], axis=0)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean": values.mean(),
        "standard_error_of_draws": np.sqrt(np.sum(variance)) / len(values),
        "standard_error": error,
        "median_effective_sample_size": np.median(size),
    }
