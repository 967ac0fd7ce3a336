"""Subsets of modalities: their order, membership masks, names, availability.

Subsets are always ordered by size, then by modality index, so that row `s` of
`membership_mask(M)` is the subset that component `s` of every mixture belongs to.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number

#: Families of subsets that have a name; see `membership_mask`.
SUBSET_FAMILIES = (
    "nonempty",
    "powerset",
    "singletons",
    "singletons_and_prior",
    "full",
)


@dataclasses.dataclass(frozen=True)
class SubsetSampler:
    """Mixes k subsets of each row instead of all 2^n - 1, for many modalities.

    Each row gets the subsets of `always` that can be formed from its n modalities
    present, and a sample of its other non-empty subsets, shared out evenly over them.
    Weights are such that any sum over the uniform mixture of all 2^n - 1 is estimated
    without bias: 1 / (2^n - 1) for each subset of `always`, and equal shares of the
    rest for the sampled ones. Training samples anew in each step and row; inference
    takes the same sample for all rows that have the same modalities, by `seed`.

    Attributes:
      num_subsets: k, subsets a row, more than `always` lists.
      always: Subsets that are never left to chance, by modality index; in a model also
        by name.
      seed: Seed of the sample in inference, from 0 to 2^31 - 1.

    Raises:
      TypeError, ValueError: If an argument is not as described.
    """

    num_subsets: int
    always: Sequence[Iterable[int]] = ()
    seed: int = 0

    def __post_init__(self):
        always = _listed_subsets(self.always)
        object.__setattr__(self, "always", always)
        if not all(always) or len({frozenset(s) for s in always}) < len(always):
            raise ValueError(
                "`always` must list non-empty subsets, each only once. "
                f"Received: {self.always!r}."
            )
        # More than `always` lists, so that the others can be drawn.
        least = len(always) + 1
        count = whole_number("num_subsets", self.num_subsets, minimum=least)
        object.__setattr__(self, "num_subsets", count)
        seed = whole_number("seed", self.seed, maximum=2**31 - 1)
        object.__setattr__(self, "seed", seed)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "num_subsets": self.num_subsets,
            "always": [list(subset) for subset in self.always],
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SubsetSampler":
        """Rebuilds the sampler from `get_config`'s dictionary."""
        return cls(**config)


def _listed_subsets(always: Sequence[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    try:
        # A string is a sequence too, but of letters.
        if isinstance(always, str) or any(isinstance(s, str) for s in always):
            raise TypeError
        listed = tuple(tuple(subset) for subset in always)
        hash(listed)
    except TypeError:
        raise ValueError(
            "`always` must list subsets, such as [['a', 'b']] or [[0, 1]]. "
            f"Received: {always!r}."
        ) from None
    return listed


#: What `subsets=` accepts: a family's name, the subsets by index, or a sampler.
SubsetSpec = str | Sequence[Iterable[int]] | SubsetSampler


def subset_indices(
    num_modalities: int, subsets: SubsetSpec = "nonempty"
) -> tuple[tuple[int, ...], ...]:
    """Lists subsets as tuples of modality indices, by size, then by index.

    Args:
      num_modalities: Number of modalities M, at least 1.
      subsets: `"nonempty"` (2^M - 1 subsets; the published code), `"powerset"`
        (2^M; the formula of Sutter et al., ICLR 2021, where the empty subset is the
        prior), `"singletons"` (MMVAE), `"singletons_and_prior"` (mmJSD), `"full"`
        (MVAE), or an explicit sequence of subsets, each a sequence of indices in
        [0, M).

    Raises:
      TypeError: If `num_modalities` is not a whole number.
      ValueError: If M < 1, the family is unknown, or an explicit list is empty,
        repeats a subset or an index, or has an index outside [0, M).
    """
    num_modalities = whole_number("num_modalities", num_modalities, minimum=1)
    if isinstance(subsets, str):
        sizes = {
            "nonempty": range(1, num_modalities + 1),
            "powerset": range(num_modalities + 1),
            "singletons": range(1, 2),
            "singletons_and_prior": range(2),
            "full": range(num_modalities, num_modalities + 1),
        }
        if subsets not in sizes:
            raise ValueError(
                f"`subsets` must be one of {list(SUBSET_FAMILIES)} or a list of "
                f"subsets. Received: {subsets!r}."
            )
        return tuple(
            subset
            for size in sizes[subsets]
            for subset in itertools.combinations(range(num_modalities), size)
        )
    if isinstance(subsets, SubsetSampler):
        raise ValueError(
            "A SubsetSampler has no list of subsets: it draws them for each row."
        )
    return _explicit_subsets(num_modalities, subsets)


def _explicit_subsets(
    num_modalities: int, subsets: Sequence[Iterable[int]]
) -> tuple[tuple[int, ...], ...]:
    listed = []
    for subset in subsets:
        try:
            members = tuple(
                sorted(
                    whole_number("subsets", index, minimum=-(2**31)) for index in subset
                )
            )
        except TypeError:
            raise ValueError(
                "Each subset in `subsets` must be a list of indices, such as [0, 2]. "
                f"Received: {subset!r}."
            ) from None
        if len(set(members)) < len(members) or any(
            not 0 <= index < num_modalities for index in members
        ):
            raise ValueError(
                "Each subset in `subsets` must hold different indices from 0 to "
                f"{num_modalities - 1}. Received: {members}."
            )
        listed.append(members)
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(
            "`subsets` must list at least one subset, and each only once. "
            f"Received: {listed}."
        )
    return tuple(sorted(listed, key=lambda members: (len(members), members)))


def membership_mask(
    num_modalities: int, subsets: SubsetSpec = "nonempty"
) -> np.ndarray:
    """Says which modality belongs to which subset.

    Args:
      num_modalities: Number of modalities M.
      subsets: See `subset_indices`.

    Returns:
      bool `[S, M]`, rows by subset size, then by modality index.

    Raises:
      ValueError: As `subset_indices`.
    """
    listed = subset_indices(num_modalities, subsets)
    mask = np.zeros((len(listed), num_modalities), dtype=bool)
    for row, members in enumerate(listed):
        mask[row, list(members)] = True
    return mask


def has_empty_subset(subsets: SubsetSpec) -> bool:
    """Whether the prior alone, the empty subset's posterior, is in the mixture."""
    if isinstance(subsets, SubsetSampler):
        return False
    # It is of no modality: listing the family for one finds it.
    listed = subset_indices(1, subsets) if isinstance(subsets, str) else subsets
    return not all(len(list(members)) for members in listed)


def subset_names(
    modality_names: Sequence[str], subsets: SubsetSpec = "nonempty"
) -> tuple[str, ...]:
    """Names each subset by its members joined with `+`; the empty one is `prior`."""
    return tuple(
        "+".join(modality_names[index] for index in members) or "prior"
        for members in subset_indices(len(modality_names), subsets)
    )


def available_subsets(mask: np.ndarray, present: tf.Tensor) -> tf.Tensor:
    """Says which subsets can be formed from the modalities present in each row.

    A subset can be formed when all its modalities are present. A family of the full
    set alone (`"full"`, the MVAE's) shrinks to whatever is present: it can be formed
    from any one modality.

    Args:
      mask: bool `[S, M]` from `membership_mask`.
      present: bool `[..., B, M]`.

    Returns:
      bool `[..., B, S]`.
    """
    if mask.shape[0] == 1 and mask.all():
        return tf.reduce_any(present, axis=-1, keepdims=True)
    absent = tf.cast(tf.logical_not(present), tf.float32)  # [..., B, M]
    lacking = tf.tensordot(absent, mask.T.astype(np.float32), axes=1)
    return lacking < 0.5
