"""Seeds of rows: known values, and that no two rows of neighbouring calls share one."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.signatures import contract
from export.signatures.row_seeds import row_seeds
from tf_mopoe.distributions import noise
from tf_mopoe.models import serving_inputs

INT64 = st.integers(-(2**63), 2**63 - 1)
MASK = 2**64 - 1


def mix(z: int) -> int:
    """SplitMix64's finaliser, in Python's own integers."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def expected_seed(seed: int, row: int) -> int:
    z = mix(mix(seed & MASK) + 0x9E3779B97F4A7C15 * (row + 1) & MASK)
    return z - 2**64 if z >= 2**63 else z


def test_seed_0_gives_the_published_sequence_of_splitmix64():
    # mix(0) = 0: what remains is the generator itself, started at 0.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert row_seeds(0, 3).view(np.uint64).tolist() == published


@given(seed=INT64, rows=st.integers(0, 9), first=st.integers(0, 2**40))
def test_the_library_makes_the_same_seeds(seed, rows, first):
    made = noise.row_seeds(seed, rows, first).numpy()
    np.testing.assert_array_equal(row_seeds(seed, rows, first), made)


def test_the_library_and_the_contract_name_flags_alike():
    assert serving_inputs.FLAG_PREFIX == contract.FLAG_PREFIX


def test_known_values_of_other_seeds():
    assert row_seeds(1, 2).tolist() == [-4616330145664149646, 6869446166584666695]
    assert row_seeds(-1, 2).tolist() == [-6523613405836042406, -5438901102636068674]
    assert row_seeds(2**63 - 1, 1).tolist() == [-8167313015721612095]
    assert row_seeds(-(2**63), 1).tolist() == [7568450554649527987]


@given(seed=INT64, rows=st.integers(0, 50), first=st.integers(0, 2**40))
def test_seeds_are_those_of_whole_number_arithmetic(seed, rows, first):
    seeds = row_seeds(seed, rows, first_row=first)
    assert seeds.dtype == np.int64
    assert seeds.tolist() == [expected_seed(seed, first + i) for i in range(rows)]


@given(seed=INT64, rows=st.integers(0, 100), cut=st.integers(0, 100))
def test_seeds_do_not_depend_on_how_rows_are_split(seed, rows, cut):
    cut = min(cut, rows)
    parts = [row_seeds(seed, cut), row_seeds(seed, rows - cut, first_row=cut)]
    assert np.concatenate(parts).tolist() == row_seeds(seed, rows).tolist()


def test_neighbouring_seeds_share_no_row():
    seeds = np.concatenate([row_seeds(seed, 1000) for seed in range(-300, 301)])
    assert len(np.unique(seeds)) == 601 * 1000


@pytest.mark.parametrize("seed", [True, np.True_, 2.0, np.float64(2), "1", b"1", None])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(TypeError, match="`seed` must be an int"):
        row_seeds(seed, 2)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, np.uint64(2**63), 10**30])
def test_a_seed_beyond_int64_is_refused(seed):
    with pytest.raises(ValueError, match="`seed` must fit into int64"):
        row_seeds(seed, 2)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16, np.array])
def test_whole_numbers_of_numpy_are_taken(kind):
    assert row_seeds(kind(3), 2).tolist() == row_seeds(3, 2).tolist()


def test_negative_rows_are_refused():
    with pytest.raises(ValueError, match="`rows` must be 0 or more"):
        row_seeds(0, -1)
    with pytest.raises(ValueError, match="`first_row` must be 0 or more"):
        row_seeds(0, 1, first_row=-1)


def test_numpy_alone_is_imported():
    code = (
        "import sys; import numpy; before = set(sys.modules); "
        "import export.signatures.row_seeds; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - sys.stdlib_module_names))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "['export']"
