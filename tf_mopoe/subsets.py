"""Subsets of modalities: their order, membership masks, names, availability.

Subsets are always ordered by size, then by modality index, so that row `s` of
`membership_mask(M)` is the subset that component `s` of every mixture belongs to.
"""

import itertools
import operator
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

#: Families of subsets that have a name; see `membership_mask`.
SUBSET_FAMILIES = ("nonempty", "powerset", "singletons", "full")

#: What `subsets=` accepts: a family's name or the subsets themselves, by index.
SubsetSpec = str | Sequence[Iterable[int]]


def subset_indices(
    num_modalities: int, subsets: SubsetSpec = "nonempty"
) -> tuple[tuple[int, ...], ...]:
    """Lists subsets as tuples of modality indices, by size, then by index.

    Args:
      num_modalities: Number of modalities M, at least 1.
      subsets: `"nonempty"` (2^M - 1 subsets; the published code), `"powerset"`
        (2^M; the formula of Sutter et al., ICLR 2021, where the empty subset is the
        prior), `"singletons"` (MMVAE), `"full"` (MVAE), or an explicit sequence of
        subsets, each a sequence of indices in [0, M).

    Raises:
      ValueError: If M < 1, the family is unknown, or an explicit list is empty,
        repeats a subset or an index, or has an index outside [0, M).
    """
    if num_modalities < 1:
        raise ValueError(
            f"`num_modalities` must be at least 1. Received: {num_modalities}."
        )
    if isinstance(subsets, str):
        sizes = {
            "nonempty": range(1, num_modalities + 1),
            "powerset": range(num_modalities + 1),
            "singletons": range(1, 2),
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
    return _explicit_subsets(num_modalities, subsets)


def _explicit_subsets(
    num_modalities: int, subsets: Sequence[Iterable[int]]
) -> tuple[tuple[int, ...], ...]:
    listed = []
    for subset in subsets:
        try:
            members = tuple(sorted(operator.index(index) for index in subset))
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
    lacking = tf.einsum("...m,sm->...s", absent, mask.astype(np.float32))
    return lacking < 0.5
