"""Names and sizes that the exporter and the clients agree on.

All tensors are named, flat and have the batch first. Every modality is a required input
`<modality>` beside a required flag `has_<modality>` (bool `[B]`); where the flag is
False the values may be anything, zeros by convention.
"""

RECONSTRUCT = "serving_default"
ENCODE = "encode"
IMPUTE = "impute"
SAMPLE = "sample"
LOG_LIKELIHOOD = "log_likelihood"

#: Before a modality's name: the flag of whether it is present in a row.
FLAG_PREFIX = "has_"
#: After the name of an image modality that is sent as a JPEG or PNG file.
BYTES_SUFFIX = "_bytes"
#: int64 `[B]`: the answer for a row depends only on the row and its seed. Clients make
#: the seeds from one int with `export.signatures.row_seeds`.
SEED = "seed"

#: Sizes to which a batching server pads; warm-up records have each.
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
MAX_BATCH_SIZE = BATCH_SIZES[-1]

#: Number of importance samples of `log_likelihood`: default, and maximum.
NUM_SAMPLES, MAX_SAMPLES = 100, 1_000_000
