"""`inference_<category>.npz`: translated cases under the reference's keys, and from there back to slices."""

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
from seewhy.io.atomic import atomic_path
from seewhy.io.geometry import Display
from seewhy.metrics.translation.similarity import METRICS
from seewhy.models.translation.step import OUTSIDE
from seewhy.run.translation.qualitative.inference import Translated
from seewhy.run.translation.qualitative.record import SIDES

__all__ = ["display_at", "paired", "read_arrays", "slices_of", "write_arrays"]

Array = NDArray[Any]
SCORED = ("translation", "cycle")
NAMES = {"ssim": "SSIM", "psnr": "PSNR", "mae": "MAE", "mse": "MSE"}
"""Metric as figures print it."""
UNKNOWN = float("nan")


def paired(own: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Direction → cases of a category, as many of one as of the other, where both have some.

    Args:
        own: a category of `case_ids.json`.
    """
    cases = {direction: list(own[f"cases{side}"]) for direction, side in SIDES.items()}
    counts = [len(some) for some in cases.values() if some]
    return {direction: some[: min(counts, default=0)] for direction, some in cases.items()}


def write_arrays(
    path: Path, cases: Mapping[str, Sequence[Mapping[str, Any]]], translated: Mapping[str, Translated]
) -> Path:
    """Write the arrays of one category.

    Under the reference's keys: `inputs_a`, `inputs_b` [N, 3M, H, W], `generated_b`, `reconstructed_a` of domain a's
    cases and `generated_a`, `reconstructed_b` of domain b's [N, M, H, W], `case_indices`, `ssim_a2b`, `psnr_a2b` [N].
    Case n of one domain is not the same head as case n of the other. Besides, for domain a (and b): `ids_a`,
    `subjects_a`, `slices_a`, `body_a` [N, H, W], `counterparts_a` [N, M, H, W] (what the other scanner really saw,
    NaN where unknown), `spacing_a` [N, 2], `size_a` [N, 2] (rows and columns before slices of different sizes were
    padded at their ends), `display_a` [N, 3] (transpose, flip rows, flip columns), `<metric>_<comparison>_a` [N, M];
    `case_indices_b`, `ssim_b2a`, `psnr_b2a`; `modalities`. Where nothing is taken back, reconstructions are NaN. Where
    a domain has no cases, its arrays are empty.

    Args:
        path: of the file.
        cases: direction → cases as `case_ids.json` has them.
        translated: sample → its arrays.
    """
    every = [translated[case["id"]] for own in cases.values() for case in own]
    size = tuple(max((one.body.shape[axis] for one in every), default=0) for axis in (0, 1))
    arrays: dict[str, Array] = {"modalities": np.asarray(MODALITIES)}
    for direction, own in cases.items():
        domain, other = direction[0], direction[-1]
        found = [translated[case["id"]] for case in own]
        arrays |= {
            f"inputs_{domain}": _stacked([one.stack for one in found], 3 * len(MODALITIES), size),
            f"generated_{other}": _stacked([one.translated for one in found], len(MODALITIES), size),
            f"reconstructed_{domain}": _stacked([_known(one, "reconstructed") for one in found], len(MODALITIES), size),
            f"counterparts_{domain}": _stacked([_known(one, "counterpart") for one in found], len(MODALITIES), size),
            f"body_{domain}": _stacked([one.body[None] for one in found], 1, size, fill=0)[:, 0].astype(bool),
            f"spacing_{domain}": np.array([one.spacing for one in found], np.float32).reshape(-1, 2),
            f"size_{domain}": np.array([one.body.shape for one in found], np.int64).reshape(-1, 2),
            f"display_{domain}": np.array([list(one.display.record().values()) for one in found], bool).reshape(-1, 3),
            f"case_indices{SIDES[direction]}": np.array([case["index"] for case in own], np.int64),
            f"ids_{domain}": np.array([case["id"] for case in own], np.str_),
            f"subjects_{domain}": np.array([case["subject"] for case in own], np.str_),
            f"slices_{domain}": np.array([case["slice"] for case in own], np.int64),
        }
        for metric in ("ssim", "psnr"):
            values = [np.inf if case[metric] is None else case[metric] for case in own]
            arrays[f"{metric}_{direction}"] = np.array(values, np.float64)
        for comparison in SCORED:
            for metric in METRICS:
                rows = [one.scores.get((comparison, metric), np.full(len(MODALITIES), UNKNOWN)) for one in found]
                table = np.array(rows, np.float32).reshape(-1, len(MODALITIES))
                arrays[f"{metric}_{comparison}_{domain}"] = table
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path


def read_arrays(path: Path, own: Mapping[str, Any]) -> dict[str, Array]:
    """Read what `write_arrays` wrote.

    Args:
        path: of the file.
        own: the category in `case_ids.json`.

    Raises:
        DataError: the file is missing, damaged, or of cases that were chosen before.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; translate the cases first: cases.stages=[infer,…]")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        known = {direction: arrays[f"ids_{direction[0]}"].tolist() for direction in SIDES}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}); make it anew: cases.stages=[infer,…]") from error
    if known != {direction: [case["id"] for case in cases] for direction, cases in paired(own).items()}:
        raise DataError(f"{path} holds other cases than case_ids.json names by now; cases.stages=[infer,…]")
    return arrays


def slices_of(arrays: Mapping[str, Array], direction: str, *, comparison: str, metric: str) -> list[TranslationCase]:
    """The cases of a direction as figures take them, upright, each with a score under its real name.

    Args:
        arrays: of a category.
        direction: `a2b` or `b2a`.
        comparison: `translation` or `cycle`.
        metric: of `seewhy.metrics.translation.similarity.METRICS`.
    """
    domain, other = direction[0], direction[-1]
    count = len(arrays[f"ids_{domain}"])
    name = NAMES[metric] + (" [dB]" if metric == "psnr" else "")
    printed = f"{name} to the true counterpart" if comparison == "translation" else f"cycle {name}"
    found = []
    for place in range(count):
        turn = _turner(arrays, domain, place)
        truth = turn(arrays[f"counterparts_{domain}"][place])
        back = turn(arrays[f"reconstructed_{domain}"][place])
        middle = arrays[f"inputs_{domain}"].shape[1] // 3
        spacing = [float(step) for step in arrays[f"spacing_{domain}"][place]]
        spacing = spacing if all(step > 0 for step in spacing) else [1.0, 1.0]
        spacing = spacing[::-1] if display_at(arrays, domain, place).transpose else spacing
        scores = arrays[f"{metric}_{comparison}_{domain}"][place]
        found.append(
            TranslationCase(
                subject=str(arrays[f"subjects_{domain}"][place]),
                number=int(arrays[f"slices_{domain}"][place]),
                direction=direction,
                input=turn(arrays[f"inputs_{domain}"][place][middle : 2 * middle]),
                translated=turn(arrays[f"generated_{other}"][place]),
                body=turn(arrays[f"body_{domain}"][place][None])[0],
                reconstructed=None if np.isnan(back).all() else back,
                truth=None if np.isnan(truth).all() else truth,
                scores={} if np.isnan(scores).all() else {printed: scores.tolist()},
                spacing=(spacing[0], spacing[1]),
            )
        )
    return found


def display_at(arrays: Mapping[str, Array], domain: str, place: int) -> Display:
    """How a case is turned upright."""
    transpose, flip_rows, flip_columns = (bool(one) for one in arrays[f"display_{domain}"][place])
    return Display(transpose=transpose, flip_rows=flip_rows, flip_columns=flip_columns)


def _turner(arrays: Mapping[str, Array], domain: str, place: int) -> Any:
    """Cuts the padding off and turns each plane of [C, H, W] upright."""
    rows, columns = arrays[f"size_{domain}"][place]
    display = display_at(arrays, domain, place)

    def turn(planes: Array) -> Array:
        return np.stack([turn_upright(plane[:rows, :columns], display) for plane in planes])

    return turn


def _known(one: Translated, name: str) -> Array:
    array: Array | None = getattr(one, name)
    return np.full_like(one.translated, UNKNOWN) if array is None else array


def _stacked(planes: Sequence[Array], channels: int, size: tuple[int, ...], *, fill: float = OUTSIDE) -> Array:
    """[N, C, H, W] float32, smaller planes padded at their ends; what is unknown stays NaN."""
    result = np.full((len(planes), channels, *size), fill, np.float32)
    for place, own in enumerate(planes):
        rows, columns = own.shape[1:]
        result[place, :, :rows, :columns] = own
    return result
