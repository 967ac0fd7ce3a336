"""Coherence and linear probes of a run: entries of evaluation.json."""

from collections.abc import Mapping
from typing import Any

from trainers.evaluation.context import Entry, Evaluation, as_json, first_rows, progress


def conditional_coherence(evaluation: Evaluation) -> Entry:
    """By subset and target, and averaged; both readings of a subset's posterior."""
    from tf_mopoe.metrics import (
        attribute_coherence,
        mean_by_number_given,
    )
    from tf_mopoe.metrics import conditional_coherence as class_coherence
    from tf_mopoe.metrics.attribute_scores import mean_of_defined

    measure = attribute_coherence if evaluation.has_attributes else class_coherence
    score = "average precision" if evaluation.has_attributes else "accuracy"
    entry: Entry = {
        "protocol": f"{score} of a classifier on modalities decoded from one z a row; "
        "'product': z drawn from the given subset's product of experts; 'mixture': "
        "drawn from the mixture over all its subsets; 'product_mean': the product's "
        "mean; styles drawn from the prior (their mean for 'product_mean'); mean over "
        "subsets of one size and their targets: 'by_number_given' targets that were "
        "not given, 'by_number_given_of_given' those that were",
        "split": evaluation.split,
        "seed": evaluation.options.seed,
        "num_rows": evaluation.num_rows,
        "samples_per_row": 1,
        "score": score,
        "classifier_test_accuracy": _classifier_scores(evaluation),
    }
    for name, posterior, latent in (
        ("product", "product", "sample"),
        ("mixture", "mixture", "sample"),
        ("product_mean", "product", "mean"),
    ):
        table: Mapping[str, Any] = measure(
            evaluation.model,
            evaluation.data.modalities,
            evaluation.data.labels,
            evaluation.classifiers,
            posterior=posterior,
            latent=latent,
            seed=evaluation.options.seed,
            progress=progress(f"coherence, {name.replace('_', ' ')}"),
        )
        part = {}
        if evaluation.has_attributes:
            part["by_attribute"] = _by_attribute(evaluation, table)
            table = {
                subset: {target: mean_of_defined(v) for target, v in row.items()}
                for subset, row in table.items()
            }
        entry[name] = {
            "by_number_given": mean_by_number_given(table, targets="not_given"),
            "by_number_given_of_given": mean_by_number_given(table, targets="given"),
            "by_subset": table,
            **part,
        }
    return as_json(entry)


def _by_attribute(evaluation: Evaluation, table: Mapping) -> Entry:
    names = evaluation.recipe.attributes() if evaluation.recipe.attributes else ()
    return {
        subset: {
            target: dict(zip(names, values, strict=True))
            for target, values in row.items()
        }
        for subset, row in table.items()
    }


def _classifier_scores(evaluation: Evaluation) -> dict[str, float]:
    """On the rows measured: accuracy, or mean average precision of attributes."""
    from tf_mopoe.metrics import average_precision, classifier_accuracy
    from tf_mopoe.metrics.attribute_scores import mean_of_defined

    values, labels = evaluation.data
    if evaluation.has_attributes:
        return {
            name: mean_of_defined(average_precision(classifier, values[name], labels))
            for name, classifier in evaluation.classifiers.items()
        }
    return {
        name: classifier_accuracy(classifier, values[name], labels)
        for name, classifier in evaluation.classifiers.items()
    }


def joint_coherence(evaluation: Evaluation) -> Entry:
    """Share of draws in which all modalities show one class; from three priors."""
    from tf_mopoe.metrics import joint_coherence as coherence

    what = (
        "mean over attributes of the share of draws in which the classifiers of all "
        "modalities agree on the attribute"
        if evaluation.has_attributes
        else "share of draws in which the classifiers of all modalities agree"
    )
    entry: Entry = {
        "protocol": f"{what}; z from the prior N(0, I), and from a Gaussian mixture "
        "and a normalising flow fitted to draws from the posteriors of training rows; "
        "styles from their prior",
        "seed": evaluation.options.seed,
        "num_samples": evaluation.options.num_samples,
        "num_posterior_rows": evaluation.num_posterior_rows,
    }
    for name, latents in evaluation.priors.items():
        entry[name] = coherence(
            evaluation.model,
            evaluation.classifiers,
            latents=latents,
            seed=evaluation.options.seed,
            attributes=evaluation.has_attributes,
        )
    return as_json(entry)


def linear_probe(evaluation: Evaluation) -> Entry:
    """Accuracy of logistic regressions on latent means, by two protocols."""
    from tf_mopoe.metrics import linear_probe as probe
    from tf_mopoe.metrics import mean_by_number_given

    count = evaluation.options.num_train
    train = first_rows(evaluation.train, count)
    score = (
        "mean average precision over attributes"
        if evaluation.has_attributes
        else "accuracy"
    )
    entry: Entry = {
        "protocol": f"{score} of a logistic regression on the mean of each subset's "
        "product of experts, fitted on the first rows of the training split; "
        "'per_subset': one regression a subset, 'joint': one, fitted on the product of "
        "all modalities, for every subset; mean over subsets of one size",
        "split": evaluation.split,
        "num_train": len(train.labels),
        "num_rows": evaluation.num_rows,
        "score": score,
    }
    for protocol in ("per_subset", "joint"):
        table = probe(
            evaluation.model, train, evaluation.data, protocol=protocol, num_train=None
        )
        entry[protocol] = {
            "by_number_given": mean_by_number_given(table),
            "by_subset": table,
        }
    return as_json(entry)
