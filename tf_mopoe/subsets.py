"""Subsets of modalities: their order, membership masks, names, availability.

Subsets are always ordered by size, then by modality index, so that row `s` of
`membership_mask(M)` is the subset that component `s` of every mixture belongs to.

To add a family of subsets, add its name and the sizes of its subsets to
`SUBSET_FAMILIES`. A list of subsets needs no family: `subsets=[[0], [0, 1]]`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mopoe.checks import whole_number

#: Name of a family to the sizes of its subsets, as a function of M. A family holds all
#: subsets of these sizes.
SUBSET_FAMILIES: dict[str, Callable[[int], Iterable[int]]] = {
    "nonempty": lambda num_modalities: range(1, num_modalities + 1),
    "powerset": lambda num_modalities: range(num_modalities + 1),
    "singletons": lambda num_modalities: [1],
    "singletons_and_prior": lambda num_modalities: [0, 1],
    "full": lambda num_modalities: [num_modalities],
}


@dataclasses.dataclass(frozen=True)
class SubsetSampler:
    """Samples k subsets for each row instead of all 2^n - 1, for many modalities.

    Each row gets the subsets of `always` that can be formed from its n modalities
    present, and a stratified sample of its other non-empty subsets. The weights make
    every sum over the uniform mixture of all 2^n - 1 subsets unbiased: 1 / (2^n - 1)
    for each subset of `always`; the sampled subsets divide the rest equally. Training
    draws a new sample for each step and row. Inference draws one sample from `seed`
    for all rows that have the same modalities.

    Example:
      >>> sampler = SubsetSampler(num_subsets=8, always=[range(20)])
      >>> sampler.always[0][:3]
      (0, 1, 2)

    Attributes:
      num_subsets: Number of subsets k for each row; more than `always` lists.
      always: Subsets that every row gets, by modality index; in a model also by name.
      seed: Seed of the sample in inference, from 0 to 2^31 - 1.

    Raises:
      TypeError: If `num_subsets` or `seed` is not a whole number.
      ValueError: If a number is out of range, or `always` is not a list of different
        non-empty subsets.
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
        # At least one subset must be left to draw.
        count = whole_number("num_subsets", self.num_subsets, minimum=len(always) + 1)
        object.__setattr__(self, "num_subsets", count)
        seed = whole_number("seed", self.seed, maximum=2**31 - 1)
        object.__setattr__(self, "seed", seed)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
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


#: Argument `subsets`: a family's name, a list of subsets by index, or a sampler.
SubsetSpec = str | Sequence[Iterable[int]] | SubsetSampler


def subset_indices(
    num_modalities: int, subsets: SubsetSpec = "nonempty"
) -> tuple[tuple[int, ...], ...]:
    """Lists subsets as tuples of modality indices, by size, then by index.

    Example:
      >>> subset_indices(3, "singletons")
      ((0,), (1,), (2,))

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
        if subsets not in SUBSET_FAMILIES:
            raise ValueError(
                f"`subsets` must be one of {list(SUBSET_FAMILIES)} or a list of "
                f"subsets. Received: {subsets!r}."
            )
        return tuple(
            subset
            for size in sorted(SUBSET_FAMILIES[subsets](num_modalities))
            for subset in itertools.combinations(range(num_modalities), size)
        )
    if isinstance(subsets, SubsetSampler):
        raise ValueError(
            "A SubsetSampler has no list of subsets: it draws subsets for each row."
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
    """Returns which modalities belong to which subset.

    Example:
      >>> membership_mask(2)
      array([[ True, False],
             [False,  True],
             [ True,  True]])

    Args:
      num_modalities: Number of modalities M.
      subsets: Family or list of subsets; see `subset_indices`.

    Returns:
      bool `[S, M]`, rows by subset size, then by modality index.

    Raises:
      TypeError, ValueError: See `subset_indices`.
    """
    listed = subset_indices(num_modalities, subsets)
    mask = np.zeros((len(listed), num_modalities), dtype=bool)
    for row, members in enumerate(listed):
        mask[row, list(members)] = True
    return mask


def has_empty_subset(subsets: SubsetSpec) -> bool:
    """Returns whether the empty subset, whose posterior is the prior, is included.

    Example:
      >>> has_empty_subset("nonempty"), has_empty_subset("powerset")
      (False, True)
    """
    if isinstance(subsets, SubsetSampler):
        return False
    listed = subset_indices(2, subsets) if isinstance(subsets, str) else subsets
    return not all(len(list(members)) for members in listed)


def subset_names(
    modality_names: Sequence[str], subsets: SubsetSpec = "nonempty"
) -> tuple[str, ...]:
    """Returns the name of each subset: its members joined with `+`, or `prior`.

    Example:
      >>> subset_names(["image", "text"], "powerset")
      ('prior', 'image', 'text', 'image+text')
    """
    return tuple(
        "+".join(modality_names[index] for index in members) or "prior"
        for members in subset_indices(len(modality_names), subsets)
    )


def available_subsets(mask: np.ndarray, present: tf.Tensor) -> tf.Tensor:
    """Returns which subsets can be formed from the modalities present in each row.

    A subset can be formed if all its modalities are present. If the full set is the
    only subset (`"full"`, as in MVAE), it shrinks to the modalities present, and can be
    formed from any one of them.

    Example:
      >>> available_subsets(membership_mask(2), tf.constant([[True, False]])).numpy()
      array([[ True, False, False]])

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
