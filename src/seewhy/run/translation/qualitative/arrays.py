"""Arrays of translated cases in `inference_<category>.npz`: write, read, and convert them to cases of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.batch import MODALITIES
from seewhy.errors import DataError
from seewhy.figures.style import turn_upright
from seewhy.figures.translation.case import TranslationCase
from seewhy.io.geometry import Display
from seewhy.io.npy import read_npz, write_npz
from seewhy.metrics.translation.similarity import METRICS
from seewhy.models.translation.step import OUTSIDE
from seewhy.run.translation.qualitative.case_list import SIDES
from seewhy.run.translation.qualitative.inference import TranslatedSlice

__all__ = ["pair_cases", "read_arrays", "read_display", "to_translation_cases", "write_arrays"]

Array = NDArray[Any]
SCORED = ("translation", "cycle")
NAMES = {"ssim": "SSIM", "psnr": "PSNR", "mae": "MAE", "mse": "MSE"}
"""Metric → its name in figures."""
UNKNOWN = float("nan")


def pair_cases(entry: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return direction → cases of a category, equally many of both directions if both have some.

    Args:
        entry: a category of `case_ids.json`.

    Example:
        >>> from seewhy.run.translation.qualitative.arrays import pair_cases
        >>> pair_cases({"cases": [{"index": 4}, {"index": 1}], "cases_b": [{"index": 7}]})
        {'a2b': [{'index': 4}], 'b2a': [{'index': 7}]}
    """
    cases = {direction: list(entry[f"cases{side}"]) for direction, side in SIDES.items()}
    counts = [len(selected) for selected in cases.values() if selected]
    return {direction: selected[: min(counts, default=0)] for direction, selected in cases.items()}


def write_arrays(
    path: Path, cases: Mapping[str, Sequence[Mapping[str, Any]]], translated: Mapping[str, TranslatedSlice]
) -> Path:
    """Write the arrays of one category.

    Keys of the reference: `inputs_a`, `inputs_b` [N, 3M, H, W], `generated_b`, `reconstructed_a` of domain a's
    cases and `generated_a`, `reconstructed_b` of domain b's [N, M, H, W], `case_indices`, `ssim_a2b`, `psnr_a2b` [N].
    Case n of one domain is not the same head as case n of the other. Further keys, for domain a (and b): `ids_a`,
    `subjects_a`, `slices_a`, `body_a` [N, H, W], `counterparts_a` [N, M, H, W] (real scans of the other scanner, NaN
    if unknown), `spacing_a` [N, 2], `size_a` [N, 2] (rows and columns before slices of different sizes were padded at
    their ends), `display_a` [N, 3] (transpose, flip rows, flip columns), `<metric>_<comparison>_a` [N, M];
    `case_indices_b`, `ssim_b2a`, `psnr_b2a`; `modalities`. Reconstructions are NaN if nothing translates back. Arrays
    of a domain without cases are empty.

    Args:
        path: of the file.
        cases: direction → cases as in `case_ids.json`.
        translated: sample → its arrays.
    """
    every = [translated[case["id"]] for selected in cases.values() for case in selected]
    size = tuple(max((item.body.shape[axis] for item in every), default=0) for axis in (0, 1))
    count = len(MODALITIES)
    arrays: dict[str, Array] = {"modalities": np.asarray(MODALITIES)}
    for direction, selected in cases.items():
        domain, other = direction[0], direction[-1]
        items = [translated[case["id"]] for case in selected]
        back = [_or_unknown(item.reconstructed, item.translated) for item in items]
        truth = [_or_unknown(item.counterpart, item.translated) for item in items]
        arrays |= {
            f"inputs_{domain}": _stack([item.stack for item in items], 3 * count, size),
            f"generated_{other}": _stack([item.translated for item in items], count, size),
            f"reconstructed_{domain}": _stack(back, count, size),
            f"counterparts_{domain}": _stack(truth, count, size),
            f"body_{domain}": _stack([item.body[None] for item in items], 1, size, fill=0)[:, 0].astype(bool),
            f"spacing_{domain}": np.array([item.spacing for item in items], np.float32).reshape(-1, 2),
            f"size_{domain}": np.array([item.body.shape for item in items], np.int64).reshape(-1, 2),
            f"display_{domain}": np.array([i.display.turns for i in items], bool).reshape(-1, 3),
            f"case_indices{SIDES[direction]}": np.array([case["index"] for case in selected], np.int64),
            f"ids_{domain}": np.array([case["id"] for case in selected], np.str_),
            f"subjects_{domain}": np.array([case["subject"] for case in selected], np.str_),
            f"slices_{domain}": np.array([case["slice"] for case in selected], np.int64),
        }
        for metric in ("ssim", "psnr"):
            values = [np.inf if case[metric] is None else case[metric] for case in selected]
            arrays[f"{metric}_{direction}"] = np.array(values, np.float64)
        for comparison in SCORED:
            for metric in METRICS:
                rows = [item.scores.get((comparison, metric), np.full(count, UNKNOWN)) for item in items]
                arrays[f"{metric}_{comparison}_{domain}"] = np.array(rows, np.float32).reshape(-1, count)
    return write_npz(path, arrays)


def read_arrays(path: Path, entry: Mapping[str, Any]) -> dict[str, Array]:
    """Read a file of `write_arrays`.

    Args:
        path: of the file.
        entry: the category in `case_ids.json`.

    Raises:
        DataError: the file is missing, damaged, or belongs to an earlier selection of cases.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; translate the cases first: cases.stages=[infer,…]")
    try:
        arrays = read_npz(path)
        ids = {direction: arrays[f"ids_{direction[0]}"].tolist() for direction in SIDES}
    except (DataError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); write it again: cases.stages=[infer,…]") from error
    if ids != {direction: [case["id"] for case in cases] for direction, cases in pair_cases(entry).items()}:
        raise DataError(f"{path} holds other cases than case_ids.json; write it again: cases.stages=[infer,…]")
    for direction, names in ids.items():
        if problem := _find_problem(arrays, direction, len(names)):
            raise DataError(f"{path}: {problem}; write it again: cases.stages=[infer,…]")
    return arrays


def _find_problem(arrays: Mapping[str, Array], direction: str, count: int) -> str | None:
    """Describe the first array of a direction that is missing, or of another type or shape than written."""
    domain, other, many = direction[0], direction[-1], len(MODALITIES)
    body = arrays.get(f"body_{domain}")
    size = body.shape[1:] if body is not None and body.ndim == 3 else (0, 0)
    planes = {f"inputs_{domain}": 3 * many, f"generated_{other}": many}
    planes |= {f"reconstructed_{domain}": many, f"counterparts_{domain}": many}
    expected: dict[str, tuple[str, tuple[int, ...]]] = {name: ("f", (count, c, *size)) for name, c in planes.items()}
    expected |= {f"body_{domain}": ("b", (count, *size)), f"subjects_{domain}": ("U", (count,))}
    expected |= {f"slices_{domain}": ("i", (count,)), f"size_{domain}": ("i", (count, 2))}
    expected |= {f"spacing_{domain}": ("f", (count, 2)), f"display_{domain}": ("b", (count, 3))}
    expected |= {f"{metric}_{name}_{domain}": ("f", (count, many)) for name in SCORED for metric in METRICS}
    for name, (kind, shape) in expected.items():
        array = arrays.get(name)
        if array is None or (array.dtype.kind, array.shape) != (kind, shape):
            found = "missing" if array is None else f"{array.dtype} {array.shape}"
            return f"{name} is {found}; expected {kind} {shape}"
    if not all(np.isfinite(arrays[name]).all() for name in (f"inputs_{domain}", f"generated_{other}")):
        return f"inputs_{domain} or generated_{other} hold values that are not finite"
    sizes = arrays[f"size_{domain}"]
    return None if ((sizes >= 1) & (sizes <= size)).all() else f"size_{domain} is not from 1 to {size}"


def to_translation_cases(
    arrays: Mapping[str, Array], direction: str, *, comparison: str, metric: str
) -> list[TranslationCase]:
    """Convert the cases of a direction to upright cases of figures, each with a score under its printed name.

    Args:
        arrays: of a category.
        direction: `a2b` or `b2a`.
        comparison: `translation` or `cycle`.
        metric: of `seewhy.metrics.translation.similarity.METRICS`.
    """
    domain, other = direction[0], direction[-1]
    name = NAMES[metric] + (" [dB]" if metric == "psnr" else "")
    printed = f"{name} to the true counterpart" if comparison == "translation" else f"cycle {name}"
    cases = []
    for number in range(len(arrays[f"ids_{domain}"])):
        rows, columns = arrays[f"size_{domain}"][number]
        display = read_display(arrays, domain, number)

        def turn(planes: Array, rows: int = rows, columns: int = columns, display: Display = display) -> Array:
            """Remove the padding and turn each plane of [C, H, W] upright."""
            return np.stack([turn_upright(plane[:rows, :columns], display) for plane in planes])

        truth = turn(arrays[f"counterparts_{domain}"][number])
        back = turn(arrays[f"reconstructed_{domain}"][number])
        middle = arrays[f"inputs_{domain}"].shape[1] // 3
        spacing = [float(step) for step in arrays[f"spacing_{domain}"][number]]
        spacing = spacing if all(step > 0 for step in spacing) else [1.0, 1.0]
        spacing = spacing[::-1] if display.transpose else spacing
        scores = arrays[f"{metric}_{comparison}_{domain}"][number]
        cases.append(
            TranslationCase(
                subject=str(arrays[f"subjects_{domain}"][number]),
                number=int(arrays[f"slices_{domain}"][number]),
                direction=direction,
                input=turn(arrays[f"inputs_{domain}"][number][middle : 2 * middle]),
                translated=turn(arrays[f"generated_{other}"][number]),
                body=turn(arrays[f"body_{domain}"][number][None])[0],
                reconstructed=None if np.isnan(back).all() else back,
                truth=None if np.isnan(truth).all() else truth,
                scores={} if np.isnan(scores).all() else {printed: scores.tolist()},
                spacing=(spacing[0], spacing[1]),
            )
        )
    return cases


def read_display(arrays: Mapping[str, Array], domain: str, number: int) -> Display:
    """Read how a case is turned upright."""
    transpose, flip_rows, flip_columns = (bool(flag) for flag in arrays[f"display_{domain}"][number])
    return Display(transpose=transpose, flip_rows=flip_rows, flip_columns=flip_columns)


def _or_unknown(array: Array | None, like: Array) -> Array:
    """Return the array, or NaN of the shape of `like`."""
    return np.full_like(like, UNKNOWN) if array is None else array


def _stack(planes: Sequence[Array], channels: int, size: tuple[int, ...], *, fill: float = OUTSIDE) -> Array:
    """Stack to [N, C, H, W] float32; smaller planes are padded at their ends, NaN stays NaN."""
    result = np.full((len(planes), channels, *size), fill, np.float32)
    for number, plane in enumerate(planes):
        rows, columns = plane.shape[1:]
        result[number, :, :rows, :columns] = plane
    return result
