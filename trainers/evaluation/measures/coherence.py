"""Coherence and linear probes of a run: entries of evaluation.json."""

from collections.abc import Mapping
from typing import Any

from trainers.evaluation.context import Entry, EvaluationContext, first_rows, progress


def conditional_coherence(context: EvaluationContext) -> Entry:
    """Accuracy of imputed modalities' classes, by given subset and target.

    For attributes instead of classes, average precision.
    """
    from tf_mopoe import metrics
    from tf_mopoe.metrics.attribute_scores import mean_of_defined

    attributes = context.has_attributes
    coherence = (
        metrics.attribute_coherence if attributes else metrics.conditional_coherence
    )
    score = "average precision" if attributes else "accuracy"
    entry = context.entry(
        f"{score} of a classifier on modalities decoded from one z per row; "
        "'product': z drawn from the given subset's product of experts; 'mixture': "
        "drawn from the mixture over all its subsets; 'product_mean': the product's "
        "mean; styles drawn from the prior (their mean for 'product_mean'); mean over "
        "subsets of one size and their targets: 'by_number_given' targets that were "
        "not given, 'by_number_given_of_given' those that were",
        *("split", "seed", "num_rows"),
        samples_per_row=1,
        score=score,
        classifier_test_accuracy=_classifier_scores(context),
    )
    for name, posterior, latent in (
        ("product", "product", "sample"),
        ("mixture", "mixture", "sample"),
        ("product_mean", "product", "mean"),
    ):
        table: Mapping[str, Any] = coherence(
            context.model,
            context.data.modalities,
            context.data.labels,
            context.classifiers,
            posterior=posterior,
            latent=latent,
            seed=context.options.seed,
            progress=progress(f"coherence, {name.replace('_', ' ')}"),
        )
        details: Entry = {}
        if attributes:
            details["by_attribute"] = _by_attribute(context, table)
            table = {
                subset: {target: mean_of_defined(v) for target, v in row.items()}
                for subset, row in table.items()
            }
        by_number = metrics.mean_by_number_given
        entry[name] = {
            "by_number_given": by_number(table, targets="not_given"),
            "by_number_given_of_given": by_number(table, targets="given"),
            "by_subset": table,
            **details,
        }
    return entry


def _by_attribute(context: EvaluationContext, table: Mapping) -> Entry:
    names = context.recipe.attributes() if context.recipe.attributes else ()
    return {
        subset: {
            target: dict(zip(names, values, strict=True))
            for target, values in row.items()
        }
        for subset, row in table.items()
    }


def _classifier_scores(context: EvaluationContext) -> dict[str, float]:
    """Accuracy on real rows, or mean average precision of attributes."""
    from tf_mopoe.metrics import average_precision, classifier_accuracy
    from tf_mopoe.metrics.attribute_scores import mean_of_defined

    def score(name):
        data = context.classifiers[name], context.data.modalities[name]
        if context.has_attributes:
            return mean_of_defined(average_precision(*data, context.data.labels))
        return classifier_accuracy(*data, context.data.labels)

    return {name: score(name) for name in context.classifiers}


def joint_coherence(context: EvaluationContext) -> Entry:
    """Fraction of draws whose modalities all show one class, from three priors."""
    from tf_mopoe.metrics import joint_coherence as coherence

    what = (
        "mean over attributes of the share of draws in which the classifiers of all "
        "modalities agree on the attribute"
        if context.has_attributes
        else "share of draws in which the classifiers of all modalities agree"
    )
    entry = context.entry(
        f"{what}; z from the prior N(0, I), and from a Gaussian mixture and a "
        "normalising flow fitted to draws from the posteriors of training rows; styles "
        "from their prior",
        *("seed", "num_samples", "num_posterior_rows"),
    )
    for name, latents in context.priors.items():
        entry[name] = coherence(
            context.model,
            context.classifiers,
            latents=latents,
            seed=context.options.seed,
            attributes=context.has_attributes,
        )
    return entry


def linear_probe(context: EvaluationContext) -> Entry:
    """Accuracy of logistic regressions on latent means, by two protocols."""
    from tf_mopoe import metrics

    train = first_rows(context.train, context.options.num_train)
    score = (
        "mean average precision over attributes"
        if context.has_attributes
        else "accuracy"
    )
    entry = context.entry(
        f"{score} of a logistic regression on the mean of each subset's product of "
        "experts, fitted on the first rows of the training split; 'per_subset': one "
        "regression per subset, 'joint': one, fitted on the product of all modalities, "
        "for every subset; mean over subsets of one size",
        *("split", "num_rows"),
        num_train=len(train.labels),
        score=score,
    )
    for protocol in ("per_subset", "joint"):
        table = metrics.linear_probe(
            context.model, train, context.data, protocol=protocol, num_train=None
        )
        entry[protocol] = {
            "by_number_given": metrics.mean_by_number_given(table),
            "by_subset": table,
        }
    return entry
