"""AnnData and MuData: values, missing observations, matching by name, errors."""

import numpy as np
import pytest
import scipy.sparse

from tests.tiny_models import loss_and_gradients, tiny_modality, tiny_model
from tf_mopoe.data.annotated import from_anndata

pd = pytest.importorskip("pandas", reason="pandas is optional")
anndata = pytest.importorskip("anndata", reason="anndata is optional")

NAN = np.nan
COUNTS = np.array([[0, 1], [2, 0], [0, 3]])


@pytest.fixture
def mudata():
    module = pytest.importorskip("mudata", reason="mudata is optional")
    with module.set_options(pull_on_update=False):  # 0.3 warns of 0.4's default
        yield module


def annotated(x=COUNTS, names="abc", genes="gh", **kwargs):
    obs = pd.DataFrame(index=list(names))
    var = pd.DataFrame(index=list(genes))
    return anndata.AnnData(x, obs=obs, var=var, **kwargs)


def two_modalities(mudata, rna=COUNTS, protein=None):
    protein = np.array([[7.0], [8.0]]) if protein is None else protein
    return mudata.MuData(
        {
            "rna": annotated(rna, layers={"counts": 10 * COUNTS}),
            "protein": annotated(protein, "db", "p"),
        }
    )


@pytest.mark.parametrize(
    "kind",
    [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csc_matrix],
    ids=["dense", "csr", "csc"],
)
@pytest.mark.parametrize("dtype", ["int64", "float64", "float32"])
def test_matrices_become_dense_float32(kind, dtype):
    x = kind(COUNTS.astype(dtype))
    data = from_anndata(annotated(x), {"rna": "X"})
    assert list(data) == ["rna"]
    assert type(data["rna"]) is np.ndarray
    assert data["rna"].dtype == np.float32
    np.testing.assert_array_equal(data["rna"], COUNTS)


def test_modalities_are_read_from_their_locations():
    adata = annotated(
        layers={"raw/counts": 2 * COUNTS, "X": scipy.sparse.csr_matrix(3 * COUNTS)},
        obsm={
            "pca": np.arange(12.0).reshape(3, 2, 2),
            "protein": scipy.sparse.csr_matrix(4 * COUNTS),
            "table": pd.DataFrame({"n": [1, 2, 3], "m": [4, 5, 6]}, index=list("abc")),
        },
    )
    where = {
        "a": "layers/raw/counts",
        "b": "layers/X",
        "c": "obsm/pca",
        "d": "obsm/protein",
        "e": "obsm/table",
        "f": "X",
    }
    data = from_anndata(adata, where)
    assert list(data) == [*"abcdef"]
    assert {value.dtype for value in data.values()} == {np.dtype("float32")}
    for name, factor in {"a": 2, "b": 3, "d": 4, "f": 1}.items():
        np.testing.assert_array_equal(data[name], factor * COUNTS)
    np.testing.assert_array_equal(data["c"], np.arange(12.0).reshape(3, 2, 2))
    np.testing.assert_array_equal(data["e"], [[1, 4], [2, 5], [3, 6]])


def test_views_give_their_own_rows_in_their_own_order():
    table = pd.DataFrame({"n": [1, 2, 3]}, index=list("abc"))
    adata = annotated(scipy.sparse.csr_matrix(COUNTS), obsm={"table": table})
    data = from_anndata(adata[["c", "a"]], {"rna": "X", "table": "obsm/table"})
    np.testing.assert_array_equal(data["rna"], COUNTS[[2, 0]])
    np.testing.assert_array_equal(data["table"], [[3], [1]])


def test_observations_of_nan_are_missing():
    protein = np.array([[1.0, 2.0], [NAN, NAN], [NAN, 3.0]])
    adata = annotated(obsm={"protein": protein})
    where = {"rna": "X", "protein": "obsm/protein"}
    with pytest.raises(ValueError, match="'protein'.*row 2 with NaN in 1 of 2 values"):
        from_anndata(adata, where)
    data = from_anndata(adata, where, partial="missing")
    np.testing.assert_array_equal(data["protein"], [[1, 2], [0, 0], [0, 0]])
    assert list(data["present"]) == ["protein"]
    np.testing.assert_array_equal(data["present"]["protein"], [True, False, False])


def test_the_object_is_not_modified():
    adata = annotated(np.array([[NAN, NAN], [1.0, 2.0], [3.0, 4.0]], np.float32))
    before = adata.X.copy()
    data = from_anndata(adata, {"rna": "X"})
    data["rna"][:] = -1
    np.testing.assert_array_equal(adata.X, before)
    full = annotated(COUNTS.astype(np.float32))
    from_anndata(full, {"rna": "X"})["rna"][:] = -1
    np.testing.assert_array_equal(full.X, COUNTS)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix])
def test_objects_that_stay_on_disk_are_read(tmp_path, kind):
    annotated(kind(COUNTS.astype(np.float32))).write_h5ad(tmp_path / "x.h5ad")
    adata = anndata.read_h5ad(tmp_path / "x.h5ad", backed="r")
    np.testing.assert_array_equal(from_anndata(adata, {"rna": "X"})["rna"], COUNTS)
    adata.file.close()


def test_modalities_of_mudata_are_matched_by_the_names_of_observations(mudata):
    mdata = two_modalities(mudata)
    assert list(mdata.obs_names) == [*"abcd"]
    data = from_anndata(mdata)
    assert list(data) == ["rna", "protein", "present"]
    np.testing.assert_array_equal(data["rna"], [[0, 1], [2, 0], [0, 3], [0, 0]])
    np.testing.assert_array_equal(data["protein"], [[0], [8], [0], [7]])
    np.testing.assert_array_equal(data["present"]["rna"], [True, True, True, False])
    np.testing.assert_array_equal(
        data["present"]["protein"], [False, True, False, True]
    )


def test_views_of_mudata_give_their_own_rows(mudata):
    mdata = two_modalities(mudata)[["d", "b"]]
    data = from_anndata(mdata)
    rows = {"b": [[2, 0], [8]], "d": [[0, 0], [7]]}
    for row, name in enumerate(mdata.obs_names):
        np.testing.assert_array_equal(data["rna"][row], rows[name][0])
        np.testing.assert_array_equal(data["protein"][row], rows[name][1])


def test_layers_of_mudata_are_taken_where_they_are_named(mudata):
    data = from_anndata(two_modalities(mudata), layers={"rna": "counts"})
    np.testing.assert_array_equal(data["rna"][:3], 10 * COUNTS)
    np.testing.assert_array_equal(data["protein"], [[0], [8], [0], [7]])


def test_observations_of_mudata_are_missing_if_absent_or_nan(mudata):
    rna = np.array([[NAN, NAN], [2.0, NAN], [0.0, 3.0]])
    mdata = two_modalities(mudata, rna)
    with pytest.raises(ValueError, match="'rna'.*row 1 with NaN in 1 of 2 values"):
        from_anndata(mdata)
    data = from_anndata(mdata, partial="missing")
    np.testing.assert_array_equal(data["present"]["rna"], [False, False, True, False])


def test_mudata_without_holes_has_no_flags(mudata):
    mdata = mudata.MuData(
        {"rna": annotated(), "protein": annotated(COUNTS[::-1], "cba", "pq")}
    )
    data = from_anndata(mdata)
    assert list(data) == ["rna", "protein"]
    np.testing.assert_array_equal(data["rna"], data["protein"])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "layers/count",
            "'rna'.*'layers/count', which does not exist. Did you mean 'lay",
        ),
        ("obsm/pca_", "Did you mean 'obsm/pca'"),
        ("raw", r"It has \['X', 'layers/counts', 'obsm/pca'\]"),
        ("obs/age", "'X', 'layers/<key>' or 'obsm/<key>'"),
        (None, "Received: None"),
    ],
)
def test_an_unknown_location_is_named_with_the_nearest_known_one(where, message):
    adata = annotated(layers={"counts": COUNTS}, obsm={"pca": np.ones([3, 2])})
    with pytest.raises(ValueError, match=message):
        from_anndata(adata, {"rna": where})


def test_a_missing_matrix_is_refused():
    adata = annotated(None, obsm={"pca": np.ones([3, 2])}, genes="")
    with pytest.raises(ValueError, match=r"Received: 'X'.*\['obsm/pca'\]"):
        from_anndata(adata, {"rna": "X"})


def test_values_that_are_no_numbers_are_refused():
    table = pd.DataFrame({"n": ["x", "y", "z"]}, index=list("abc"))
    adata = annotated(obsm={"table": table, "words": np.full([3, 2], "x")})
    with pytest.raises(TypeError, match="Column 'n' of modality 'a' must hold numbers"):
        from_anndata(adata, {"a": "obsm/table"})
    with pytest.raises(TypeError, match="'a' must hold numbers at 'obsm/words'.*<U1"):
        from_anndata(adata, {"a": "obsm/words"})


@pytest.mark.parametrize(
    ("argument", "kwargs", "error", "message"),
    [
        (np.ones([3, 2]), {}, TypeError, "AnnData or a mudata.MuData.*numpy.ndarray"),
        (annotated(), {}, TypeError, r"`modalities` must be.*None. There are \['X'\]"),
        (annotated(), {"modalities": ["X"]}, TypeError, "dictionary"),
        (annotated(), {"modalities": {}}, ValueError, "dictionary"),
        (annotated(), {"modalities": {"present": "X"}}, ValueError, "key of the flags"),
        (
            annotated(),
            {"layers": {"rna": "counts"}},
            TypeError,
            "`layers` is for MuDat",
        ),
        (
            annotated(COUNTS[:0], ""),
            {"modalities": {"rna": "X"}},
            ValueError,
            "must have observations",
        ),
    ],
)
def test_arguments_that_are_not_as_described_are_refused(
    argument, kwargs, error, message
):
    with pytest.raises(error, match=message):
        from_anndata(argument, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"modalities": {"rna": "X"}}, TypeError, "`modalities` is for AnnData"),
        ({"layers": "counts"}, TypeError, "`layers` must be a dictionary.*'counts'"),
        ({"layers": {"rn": "counts"}}, ValueError, "'rn'.*Did you mean 'rna'"),
        ({"layers": {"rna": "count"}}, ValueError, "Did you mean 'layers/counts'"),
        ({"layers": {"protein": "counts"}}, ValueError, "'protein' must be at"),
    ],
)
def test_arguments_that_do_not_fit_mudata_are_refused(mudata, kwargs, error, message):
    with pytest.raises(error, match=message):
        from_anndata(two_modalities(mudata), **kwargs)


def test_mudata_that_does_not_share_observations_is_refused(mudata):
    mdata = mudata.MuData({"a": annotated(), "b": annotated(names="def")}, axis=1)
    with pytest.raises(ValueError, match="shares observations.*axis=1"):
        from_anndata(mdata)


def test_mudata_without_modalities_is_refused(mudata):
    with pytest.raises(ValueError, match="at least one modality"):
        from_anndata(mudata.MuData({}))
    with pytest.raises(ValueError, match="key of the flags"):
        from_anndata(mudata.MuData({"present": annotated()}))


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
@pytest.mark.filterwarnings("ignore:obs_names are not unique:UserWarning")
def test_repeated_names_of_observations_are_refused_in_mudata(mudata):
    twice = annotated(names="aba")
    np.testing.assert_array_equal(from_anndata(twice, {"rna": "X"})["rna"], COUNTS)
    mdata = mudata.MuData({"rna": twice})
    with pytest.raises(ValueError, match="unique.*'a'.*obs_names_make_unique"):
        from_anndata(mdata)


def test_a_model_takes_mudata_with_missing_observations(mudata):
    data = from_anndata(two_modalities(mudata))
    model = tiny_model(
        [
            tiny_modality("rna", (2,), likelihood="poisson"),
            tiny_modality("protein", (1,)),
        ]
    )
    loss, gradients = loss_and_gradients(model, data)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
