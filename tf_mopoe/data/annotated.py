"""Reader of AnnData and MuData objects (single-cell measurements)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_mopoe.data.frames import columns_to_array, did_you_mean
from tf_mopoe.data.missing import mark_missing

#: Attributes by which the objects are recognised; neither package is imported.
_ANNDATA = ("X", "layers", "obsm", "obs_names")
_MUDATA = ("mod", "obs_names")


def from_anndata(
    annotated: Any,
    modalities: Mapping[str, str] | None = None,
    *,
    layers: Mapping[str, str] | None = None,
    partial: str = "error",
) -> dict[str, Any]:
    """Converts an `AnnData` or `MuData` to a batch whose rows are its N observations.

    Sparse matrices become dense: N times the number of variables, 4 bytes each. Select
    the variables first, and open files with `backed=None`.

    Args:
      annotated: An `anndata.AnnData`, or a `mudata.MuData` that shares observations
        (`axis=0`). It is not modified.
      modalities: For `AnnData`: modality name to its location, `"X"`,
        `"layers/<key>"` or `"obsm/<key>"`.
      layers: For `MuData`, whose modalities are those of `mod`: modality name to the
        key of the layer to read. Modalities that are not named are read from `X`.
      partial: Treatment of an observation whose values of a modality are NaN or masked
        in part: `"error"`, or `"missing"`, which treats the modality as missing in it.

    Returns:
      Modality name to float32 `[N, variables]`, rows in the order of
      `annotated.obs_names`. Where a modality is missing (all NaN, or an observation
      that the modality of a `MuData` does not have) it is zero, and there is
      `"present"`: modality name to bool `[N]`, for the modalities with missing rows.

    Raises:
      TypeError: If `annotated` is neither, an argument is for the other kind, or values
        are not numbers.
      ValueError: If there are no observations or no modalities, a key is unknown, `X`
        does not exist, names of observations are not unique, or an observation is NaN
        in part and `partial` is `"error"`.

    Example:
      >>> import anndata
      >>> counts = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]], np.float32)
      >>> adata = anndata.AnnData(counts, obsm={"protein": counts[:, :1] + 1})
      >>> data = from_anndata(adata, {"rna": "X", "protein": "obsm/protein"})
      >>> data["rna"].tolist(), data["protein"].shape
      ([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]], (3, 1))
    """
    if all(hasattr(annotated, name) for name in _MUDATA):
        if modalities is not None:
            raise TypeError(
                "`modalities` is for AnnData; those of a MuData are its `mod`. "
                "Pass `layers` to read some from a layer."
            )
        data = _from_mudata(annotated, {} if layers is None else layers)
    elif all(hasattr(annotated, name) for name in _ANNDATA):
        if layers is not None:
            raise TypeError(
                "`layers` is for MuData. For AnnData pass `modalities`, such as "
                "{'rna': 'layers/counts'}."
            )
        data = _from_anndata(annotated, modalities)
    else:
        raise TypeError(
            "`annotated` must be an anndata.AnnData or a mudata.MuData. Received: "
            f"{type(annotated).__module__}.{type(annotated).__name__}."
        )
    return mark_missing(data, partial=partial)


def _from_anndata(adata: Any, modalities: Any) -> dict[str, Any]:
    mapping = isinstance(modalities, Mapping)
    if not mapping or not modalities or "present" in modalities:
        raise (ValueError if mapping else TypeError)(
            "`modalities` must be, for AnnData, a dictionary of modality name (not "
            "'present', the key of the flags) to its location. Received: "
            f"{modalities!r}. There are {_locations(adata)}."
        )
    _check_rows(adata)
    return {
        name: _values(adata, location, name) for name, location in modalities.items()
    }


def _from_mudata(mdata: Any, layers: Mapping[str, str]) -> dict[str, Any]:
    if getattr(mdata, "axis", 0) == 1:
        raise ValueError(
            "`annotated` must be a MuData that shares observations (axis=0). "
            "Received: axis=1, which shares variables."
        )
    if not isinstance(layers, Mapping):
        raise TypeError(
            "`layers` must be a dictionary of modality name to the key of its layer. "
            f"Received: {layers!r}."
        )
    if not mdata.mod:
        raise ValueError("`annotated` must have at least one modality. Received: none.")
    for name in layers:
        if name not in mdata.mod:
            raise ValueError(
                f"`layers` names {name!r}, which is not a modality of `annotated`."
                f"{did_you_mean(name, mdata.mod)}"
            )
    if "present" in mdata.mod:
        raise ValueError(
            "A modality of `annotated` must not be called 'present', the key of the "
            "flags. Rename it."
        )
    _check_rows(mdata)
    _check_unique(mdata, "annotated")
    data: dict[str, Any] = {}
    flags = {}
    for name, adata in mdata.mod.items():
        _check_unique(adata, f"annotated.mod[{name!r}]")
        values = _values(
            adata, f"layers/{layers[name]}" if name in layers else "X", name
        )
        row = adata.obs_names.get_indexer(mdata.obs_names)  # [N], -1 where absent
        present = row >= 0
        data[name] = np.zeros([len(row), *values.shape[1:]], np.float32)
        data[name][present] = values[row[present]]
        if not present.all():
            flags[name] = present
    return {**data, "present": flags} if flags else data


def _check_rows(annotated: Any) -> None:
    if len(annotated.obs_names) == 0:
        raise ValueError("`annotated` must have observations. Received: none.")


def _check_unique(annotated: Any, argument: str) -> None:
    names = annotated.obs_names
    if not names.is_unique:
        raise ValueError(
            f"`{argument}` must have unique names of observations, by which rows are "
            f"matched. Received more than once: {names[names.duplicated()][0]!r}. Call "
            "its `obs_names_make_unique()`."
        )


def _locations(adata: Any) -> list[str]:
    """All locations that `modalities` may name in an AnnData."""
    return [
        *(["X"] if adata.X is not None else []),
        *(f"layers/{key}" for key in adata.layers),
        *(f"obsm/{key}" for key in adata.obsm),
    ]


def _values(adata: Any, location: str, name: str) -> np.ndarray:
    """Float32 `[N, ...]` at a location, NaN where values are missing."""
    if location not in _locations(adata):
        raise ValueError(
            f"Modality {name!r} must be at 'X', 'layers/<key>' or 'obsm/<key>' of its "
            f"AnnData. Received: {location!r}, which does not exist."
            f"{did_you_mean(location, _locations(adata))}"
        )
    slot, _, key = location.partition("/")
    values = getattr(adata, slot)
    if key:
        values = values[key]
    if hasattr(values, "columns") and hasattr(values, "iloc"):
        return columns_to_array(values, list(values.columns), f"modality {name!r}")
    if hasattr(values, "to_memory"):  # of a file that is open
        values = values.to_memory()
    dtype = getattr(values, "dtype", None)
    if dtype is None or dtype.kind not in "fiub":
        raise TypeError(
            f"Modality {name!r} must hold numbers at {location!r}. Received: "
            f"{type(values).__name__} of dtype {dtype}."
        )
    values = values.astype(np.float32)
    if isinstance(values, np.ma.MaskedArray):
        return values.filled(np.nan)
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)
