"""The metrics of `mopoe-evaluate`: each a function from an evaluation to its entry.

An entry states its protocol, its seed and its counts beside the numbers. TensorFlow is
imported inside the functions, so that wrong usage is answered at once.
"""

from collections.abc import Callable

from trainers.evaluation.context import Entry, Evaluation
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

#: Every metric by its name, in the order of the report.
MEASURES: dict[str, Callable[[Evaluation], Entry]] = {
    measure.__name__: measure
    for measure in (
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
#: Those that are measured only when they are asked for.
ON_REQUEST = ("log_likelihood_published",)
