"""The measures of `mopoe-evaluate`: functions from a context to an entry.

An entry states its protocol, its seed and its counts beside the numbers. TensorFlow is
imported inside the functions, so that wrong usage is reported immediately.
"""

from collections.abc import Callable

from trainers.evaluation.context import Entry, EvaluationContext, as_json
from trainers.evaluation.measures.coherence import (
    conditional_coherence,
    joint_coherence,
    linear_probe,
)
from trainers.evaluation.measures.imputation import (
    calibration,
    imputation,
    precision_share,
)
from trainers.evaluation.measures.likelihood import (
    log_likelihood,
    log_likelihood_published,
)
from trainers.evaluation.measures.quality import figures, sample_quality

#: Every measure by its name, in the order of the report. To add one, add it here.
MEASURES: dict[str, Callable[[EvaluationContext], Entry]] = {
    function.__name__: function
    for function in (
        conditional_coherence,
        joint_coherence,
        linear_probe,
        log_likelihood,
        log_likelihood_published,
        sample_quality,
        imputation,
        calibration,
        precision_share,
        figures,
    )
}
#: Measures that run only when they are named.
ON_REQUEST = ("log_likelihood_published",)


def measure(name: str, context: EvaluationContext) -> Entry:
    """Returns a measure's entry as JSON holds it; no finite number becomes None."""
    return as_json(MEASURES[name](context))
