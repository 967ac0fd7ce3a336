"""Subsets of modalities: order, families, names, availability, errors."""

import numpy as np
import pytest
import tensorflow as tf

from tests import closed_forms
from tf_mopoe import subsets


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_subsets_are_ordered_by_size_then_by_modality_index(count):
    expected = closed_forms.subsets_by_bit_counting(count)
    assert list(subsets.subset_indices(count)) == expected
    mask = subsets.membership_mask(count)
    assert mask.shape == (2**count - 1, count)
    assert [tuple(np.flatnonzero(row)) for row in mask] == expected


def test_three_modalities_have_the_order_written_out():
    assert subsets.subset_indices(3) == (
        (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2),
    )  # fmt: skip


def test_powerset_is_the_empty_subset_followed_by_nonempty():
    powerset = subsets.subset_indices(4, "powerset")
    assert list(powerset) == closed_forms.subsets_by_bit_counting(4, with_empty=True)
    assert powerset[0] == ()
    assert powerset[1:] == subsets.subset_indices(4, "nonempty")
    assert not subsets.membership_mask(4, "powerset")[0].any()


def test_singletons_are_the_identity_and_full_is_one_row():
    np.testing.assert_array_equal(
        subsets.membership_mask(3, "singletons"), np.eye(3, dtype=bool)
    )
    np.testing.assert_array_equal(
        subsets.membership_mask(3, "full"), np.ones((1, 3), dtype=bool)
    )


def test_one_entry_adds_a_family(monkeypatch):
    monkeypatch.setitem(subsets.SUBSET_FAMILIES, "pairs", lambda num_modalities: [2])
    assert subsets.subset_indices(3, "pairs") == ((0, 1), (0, 2), (1, 2))
    assert not subsets.has_empty_subset("pairs")
    mask = subsets.membership_mask(3, "pairs")
    available = subsets.available_subsets(mask, tf.constant([[True, False, True]]))
    np.testing.assert_array_equal(available, [[False, True, False]])


def test_the_empty_subset_is_found_in_families_and_lists():
    families = ["nonempty", "powerset", "singletons", "singletons_and_prior", "full"]
    found = [subsets.has_empty_subset(family) for family in families]
    assert found == [False, True, False, True, False]
    assert subsets.has_empty_subset([[], [0]])
    assert not subsets.has_empty_subset([[0, 1]])
    assert not subsets.has_empty_subset(subsets.SubsetSampler(2))


def test_explicit_subsets_are_sorted():
    listed = [[2, 0], (1,), {0, 1, 2}, np.array([1, 0])]
    assert subsets.subset_indices(3, listed) == ((1,), (0, 1), (0, 2), (0, 1, 2))


def test_the_explicit_list_of_a_family_is_the_family():
    every = closed_forms.subsets_by_bit_counting(3)[::-1]
    np.testing.assert_array_equal(
        subsets.membership_mask(3, every), subsets.membership_mask(3)
    )


def test_names_join_members_and_the_empty_subset_is_the_prior():
    names = subsets.subset_names(["image", "text"], "powerset")
    assert names == ("prior", "image", "text", "image+text")
    assert subsets.subset_names(["a", "b", "c"], [[2, 0]]) == ("a+c",)


@pytest.mark.parametrize(
    ("count", "family", "message"),
    [
        (0, "nonempty", r"`num_modalities` must be a whole number from 1. Received: 0"),
        (2, "pairs", r"`subsets` must be one of .*'nonempty'.* Received: 'pairs'"),
        (2, [[0, 2]], r"`subsets` .* from 0 to 1. Received: \(0, 2\)"),
        (2, [[-1]], r"`subsets` .* from 0 to 1. Received: \(-1,\)"),
        (2, [[1, 1]], r"`subsets` must hold different indices.* Received: \(1, 1\)"),
        (
            2,
            [[0, 1], [1, 0]],
            r"`subsets` must list .* only once.*\[\(0, 1\), \(0, 1\)\]",
        ),
        (2, [], r"`subsets` must list at least one subset.* Received: \[\]"),
    ],
)
def test_errors_name_the_argument_and_the_value_received(count, family, message):
    with pytest.raises(ValueError, match=message):
        subsets.membership_mask(count, family)


@pytest.mark.parametrize("family", ["nonempty", "powerset", "singletons"])
def test_a_subset_is_available_where_all_its_members_are_present(family):
    listed = subsets.subset_indices(3, family)
    present = np.array(
        [[code >> m & 1 for m in range(3)] for code in range(8)], dtype=bool
    )
    expected = [
        [set(members) <= set(np.flatnonzero(row)) for members in listed]
        for row in present
    ]
    available = subsets.available_subsets(
        subsets.membership_mask(3, family), tf.constant(present)
    )
    np.testing.assert_array_equal(available, expected)


def test_the_full_family_shrinks_to_whatever_is_present():
    present = tf.constant([[True, True], [True, False], [False, True], [False, False]])
    available = subsets.available_subsets(subsets.membership_mask(2, "full"), present)
    np.testing.assert_array_equal(available, [[True], [True], [True], [False]])


def test_the_full_set_among_others_does_not_shrink():
    mask = subsets.membership_mask(2, [[0], [0, 1]])
    available = subsets.available_subsets(mask, tf.constant([[True, False]]))
    np.testing.assert_array_equal(available, [[True, False]])


def test_availability_keeps_leading_dimensions():
    present = np.random.default_rng(0).random((2, 5, 3)) < 0.5
    mask = subsets.membership_mask(3)
    available = subsets.available_subsets(mask, tf.constant(present))
    assert available.shape == (2, 5, 7)
    for row in range(2):
        np.testing.assert_array_equal(
            available[row], subsets.available_subsets(mask, tf.constant(present[row]))
        )
