"""Cases of a loaded model: given as files or arrays, predicted as arrays."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from seewhy.batch import Prediction
from seewhy.callbacks.volumes.segmentations import masks_to_labels
from seewhy.data.base import BaseDataModule
from seewhy.data.case_files import CaseFiles
from seewhy.errors import ConfigError, DataError, nearest
from seewhy.io.names import safe_name
from seewhy.io.nifti import write_nifti
from seewhy.io.npy import write_npy
from seewhy.models.protocols import NamesClasses, SegmentsVolumes

__all__ = ["CasePrediction", "Given", "is_one_case", "list_case_files", "name_case", "split_prediction"]

Given: TypeAlias = Any
"""A file; an array or tensor; a pair of an array [X, Y, Z] and its affine [4, 4]; a dict from inputs to these; or, for
models of slices, a list of one patient's slices."""
ENDINGS = (
    ".ome.zarr", ".zarr", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".npy", ".ome.tiff", ".ome.tif", ".tiff",
    ".tif", ".png", ".jpg", ".jpeg", ".bmp",
)  # fmt: skip
Array = NDArray[Any]


def is_one_case(given: Given, datamodule: BaseDataModule) -> bool:
    """Whether a value is one case, and not a list of several."""
    if not isinstance(given, (list, tuple)):
        return True
    if _is_array_with_affine(given):
        return True
    return datamodule.has_slice_files and bool(given) and all(map(_is_slice, given))


def list_case_files(
    given: Sequence[Given],
    datamodule: BaseDataModule,
    scratch: Path,
    *,
    names: Sequence[str] | None = None,
    domain: str | None = None,
) -> list[CaseFiles]:
    """List the files of cases; arrays are written to files, so that they are read like any other.

    Args:
        given: the cases.
        datamodule: names the inputs of a case.
        scratch: folder for arrays.
        names: of the cases; None takes them from the files.
        domain: of all cases, for data of two scanners.

    Raises:
        ConfigError: unknown inputs, or another number of names than of cases.
        DataError: files that do not exist.
    """
    if names is not None and len(names) != len(given):
        raise ConfigError(f"{len(names)} names for {len(given)} cases; give one for each")
    inputs = [_name_inputs(case, datamodule) for case in given]
    found = [_find_name(case, number) for number, case in enumerate(inputs)] if names is None else list(names)
    ids = _make_unique([safe_name(name) for name in found])
    cases = []
    for name, case in zip(ids, inputs, strict=True):
        files = {key: _list_files(value, scratch / name, f"{name}_{key}") for key, value in case.items()}
        cases.append(CaseFiles(id=name, files=files, domain=domain))
    problems = [f"{path} does not exist" for case in cases for paths in case.files.values() for path in paths
                if not path.exists()]  # fmt: skip
    if problems:
        raise DataError(problems)
    return cases


def _name_inputs(case: Given, datamodule: BaseDataModule) -> dict[str, Given]:
    """Input → what was given for it."""
    known = datamodule.input_names
    if isinstance(case, Mapping):
        unknown = [str(name) for name in case if name not in known]
        if unknown:
            raise ConfigError("; ".join(f"unknown input {name!r}; {nearest(name, known)}" for name in unknown))
        given = {name: case[name] for name in known if case.get(name) is not None}
        if not given:
            raise ConfigError(f"no image was given; expected at least one of {', '.join(known)}")
        return given
    if len(known) > 1:
        raise ConfigError(f"a case has the images {', '.join(known)}; give a dict from their names to files or arrays")
    return {known[0]: case}


def _list_files(given: Given, folder: Path, stem: str) -> tuple[Path, ...]:
    """Files of one input."""
    if isinstance(given, (str, os.PathLike)):
        if "://" in str(given):
            raise ConfigError(f"{given}: only local files are read here; use predict_volume for remote volumes")
        return (Path(given),)
    if isinstance(given, (list, tuple)) and not _is_array_with_affine(given):
        parts = [_list_files(item, folder, f"{stem}_{number}") for number, item in enumerate(given)]
        return tuple(path for part in parts for path in part)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(given, (list, tuple)):
        values, affine = (_to_numpy(item, stem) for item in given)
        return (write_nifti(folder / f"{stem}.nii", values, affine=affine.astype(np.float64)),)
    return (write_npy(folder / f"{stem}.npy", _to_numpy(given, stem)),)


def _to_numpy(given: Given, name: str) -> NDArray[Any]:
    values = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        kind = f" of {values.dtype}" if isinstance(values, np.ndarray) else ""
        raise ConfigError(f"{name} is a {type(given).__name__}{kind}; expected a file, or an array of real numbers")
    return values


def _is_array_with_affine(given: Given) -> bool:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        return False
    return all(isinstance(item, (np.ndarray, Tensor)) for item in given) and tuple(given[1].shape) == (4, 4)


def _is_slice(given: Given) -> bool:
    if isinstance(given, (str, os.PathLike)):
        return str(given).lower().endswith(".npy")
    return isinstance(given, (np.ndarray, Tensor)) and given.ndim == 2


def _find_name(case: Mapping[str, Given], number: int) -> str:
    """Name of a case from its first file, without the name of the input; `case_<number>` for arrays."""
    key, value = next(iter(case.items()))
    first = value[0] if isinstance(value, (list, tuple)) else value
    if not isinstance(first, (str, os.PathLike)):
        return f"case_{number}"
    stem = name_case(first)
    return stem.removesuffix(f"_{key}") or stem


def name_case(path: str | os.PathLike[str]) -> str:
    """Name of a file without its ending.

    Example:
        >>> name_case("scans/P1.nii.gz")
        'P1'
    """
    name = Path(path).name
    ending = next((suffix for suffix in ENDINGS if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(ending)]


def _make_unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where several are the same."""
    counts, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        unique.append(f"{name}_{seen[name]}" if counts[name] > 1 else name)
        seen[name] += 1
    return unique


# -- predictions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CasePrediction:
    """Prediction of one case; what a model does not predict is None or empty.

    Attributes:
        id: of the case.
        classes: names of the classes.
        probability: [K] float32 in [0, 1], calibrated if the model is; for models of slices [S, K], the presence of
            each foreground class in each slice.
        logits: [K] float32, raw class scores of a classifier.
        predicted: name of a classifier's most probable class.
        index: numbers of the slices [S] in their source, for models of slices.
        maps: name → float32 in [0, 1]: [S, K, H, W] of slices, or [K, Z, Y, X] of volumes, at the size of the input.
        labels: [Z, Y, X] uint8 of a segmented volume: 0 is background, then 1, 2 … in the order of `classes`.
        translated: [S, M, H, W] float32 in [-1, 1], -1 outside the tissue, on the model's grid.
        reconstructed: the same, translated back.
        files: written files, as `predict.py` writes them; empty without `save_dir`.
    """

    id: str
    classes: tuple[str, ...] = ()
    probability: Array | None = None
    logits: Array | None = None
    predicted: str | None = None
    index: list[int] = field(default_factory=list)
    maps: dict[str, Array] = field(default_factory=dict)
    labels: Array | None = None
    translated: Array | None = None
    reconstructed: Array | None = None
    files: list[Path] = field(default_factory=list)


def split_prediction(prediction: Prediction, module: nn.Module, case: str) -> CasePrediction:
    """Convert the prediction of a batch with one case.

    Args:
        prediction: of `predict_step`.
        module: the model, which names its classes.
        case: id of the case.
    """
    arrays = {key: _to_array(value) for key, value in prediction.items() if isinstance(value, Tensor)}
    maps = {name: _to_array(value) for name, value in prediction.get("maps", {}).items()}
    classes = tuple(module.classes) if isinstance(module, NamesClasses) else ()
    of_slices = bool(maps) or "translated" in prediction
    labels = None
    if isinstance(module, SegmentsVolumes):
        [probability] = prediction["maps"]["segmentation"]
        labels, maps = masks_to_labels(module.probability_masks(probability)), {n: v[0] for n, v in maps.items()}
    probability, logits = arrays.get("probability"), arrays.get("logits")
    if not of_slices:
        probability, logits = (None if value is None else value[0] for value in (probability, logits))
    named = not of_slices and probability is not None and len(classes) == len(probability)
    return CasePrediction(
        id=case,
        classes=classes,
        probability=probability,
        logits=logits,
        predicted=classes[int(np.argmax(probability))] if named and probability is not None else None,
        index=list(prediction.get("index", [])) if of_slices and labels is None else [],
        maps=maps,
        labels=labels,
        translated=arrays.get("translated"),
        reconstructed=arrays.get("reconstructed"),
    )


def _to_array(value: Tensor) -> Array:
    return np.asarray(value.detach().float().cpu().numpy())
