"""AnnData and MuData objects (single-cell measurements) as modalities."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_mopoe.data.frames import columns_to_array, did_you_mean
from tf_mopoe.data.missing import mark_missing

#: Attributes by which the objects are known; neither package is imported.
_ANNDATA = ("X", "layers", "obsm", "obs_names")
_MUDATA = ("mod", "obs_names")


def from_anndata(
    annotated: Any,
    modalities: Mapping[str, str] | None = None,
    *,
    layers: Mapping[str, str] | None = None,
    partial: str = "error",
) -> dict[str, Any]:
    """Makes a batch of an `AnnData` or `MuData`, rows its N observations.

    Sparse matrices become dense: N times the number of variables, 4 bytes each. Choose
    the variables before, and open files with `backed=None`.

    Args:
      annotated: An `anndata.AnnData`, or a `mudata.MuData` that shares observations
        (`axis=0`). Is not modified.
      modalities: For `AnnData`: modality name to where it is: `"X"`, `"layers/<key>"`
        or `"obsm/<key>"`.
      layers: For `MuData`, whose modalities are those of `mod`: names of those to take
        from a layer, to its key. The others are taken from `X`.
      partial: What becomes of an observation whose values of a modality are NaN or
        masked in part: `"error"`, or `"missing"`, which treats the modality as missing
        there.

    Returns:
      Modality name to float32 `[N, variables]`, rows in the order of
      `annotated.obs_names`, zeros where it is missing: all NaN, or for `MuData` an
      observation that the modality does not have; and, if there are holes,
      `"present"`: modality name to bool `[N]`, of the modalities with holes.

    Raises:
      TypeError: If `annotated` is neither, an argument belongs to the other kind, or
        values are not numbers.
      ValueError: If there are no observations or no modalities, a key is unknown, an
        `X` is not there, names of observations are not unique, or an observation is
        NaN in part and `partial` is `"error"`.

    Example::

      from_anndata(adata, {"rna": "layers/counts", "protein": "obsm/protein"})
      from_anndata(mdata, layers={"rna": "counts"})
    """
    if all(hasattr(annotated, name) for name in _MUDATA):
        if modalities is not None:
            raise TypeError(
                "`modalities` is for AnnData; those of a MuData are its `mod`. "
                "Pass `layers` to take some from a layer."
            )
        data = _of_mudata(annotated, {} if layers is None else layers)
    elif all(hasattr(annotated, name) for name in _ANNDATA):
        if layers is not None:
            raise TypeError(
                "`layers` is for MuData. For AnnData pass `modalities`, such as "
                "{'rna': 'layers/counts'}."
            )
        data = _of_anndata(annotated, modalities)
    else:
        raise TypeError(
            "`annotated` must be an anndata.AnnData or a mudata.MuData. Received: "
            f"{type(annotated).__module__}.{type(annotated).__name__}."
        )
    return mark_missing(data, partial=partial)


def _of_anndata(adata: Any, modalities: Any) -> dict[str, Any]:
    mapping = isinstance(modalities, Mapping)
    if not mapping or not modalities or "present" in modalities:
        raise (ValueError if mapping else TypeError)(
            "`modalities` must be, for AnnData, a dictionary of modality name (not "
            "'present', the key of the flags) to where it is. Received: "
            f"{modalities!r}. There are {_places(adata)}."
        )
    _check_rows(adata)
    return {name: _values(adata, where, name) for name, where in modalities.items()}


def _of_mudata(mdata: Any, layers: Mapping[str, str]) -> dict[str, Any]:
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
                f"`layers` names {name!r}, which is no modality of `annotated`."
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
        here = row >= 0
        data[name] = np.zeros([len(row), *values.shape[1:]], np.float32)
        data[name][here] = values[row[here]]
        if not here.all():
            flags[name] = here
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


def _places(adata: Any) -> list[str]:
    """All that `modalities` may say of an AnnData."""
    return [
        *(["X"] if adata.X is not None else []),
        *(f"layers/{key}" for key in adata.layers),
        *(f"obsm/{key}" for key in adata.obsm),
    ]


def _values(adata: Any, where: str, name: str) -> np.ndarray:
    """Float32 `[N, ...]` of one place, NaN where values are missing."""
    if where not in _places(adata):
        raise ValueError(
            f"Modality {name!r} must be at 'X', 'layers/<key>' or 'obsm/<key>' of its "
            f"AnnData. Received: {where!r}, which is not there."
            f"{did_you_mean(where, _places(adata))}"
        )
    slot, _, key = where.partition("/")
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
            f"Modality {name!r} must hold numbers at {where!r}. Received: "
            f"{type(values).__name__} of dtype {dtype}."
        )
    values = values.astype(np.float32)
    if isinstance(values, np.ma.MaskedArray):
        return values.filled(np.nan)
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)
