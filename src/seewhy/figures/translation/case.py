"""Translated slice as input of figures, and helpers shared by the figures of translations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale, greyscale

__all__ = [
    "ARROW",
    "MINUS",
    "AttentionView",
    "CropFrame",
    "TranslationCase",
    "common_half",
    "crop_frame",
    "format_small_print",
    "grey_window",
    "modality_index",
    "modality_label",
    "score_text",
]

Array = NDArray[Any]
NAMES = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}
INTENSITY = "normalised intensity"
ARROW = "\N{RIGHTWARDS ARROW}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class CropFrame:
    """Visible part of a slice in millimetres (in pixels without a spacing).

    Attributes:
        centre: (y, x) of the tissue.
        half: half height and half width of the cells of a figure.
    """

    centre: tuple[float, float]
    half: tuple[float, float]


def crop_frame(body: Array, spacing: tuple[float, float]) -> CropFrame:
    """Frame around the tissue of a slice, or the whole slice without tissue.

    Args:
        body: [H, W], non-zero is tissue.
        spacing: spacing of rows and of columns.
    """
    inside = np.asarray(body) > 0
    ends = []
    for axis, step in enumerate(spacing):
        occupied = np.flatnonzero(inside.any(axis=1 - axis))
        first, last = (occupied[0], occupied[-1] + 1) if occupied.size else (0, inside.shape[axis])
        ends.append((float(first) * step, float(last) * step))
    (top, bottom), (left, right) = ends
    return CropFrame(
        centre=((top + bottom) / 2, (left + right) / 2), half=(0.52 * (bottom - top), 0.52 * (right - left))
    )


@dataclass(frozen=True, kw_only=True)
class TranslationCase:
    """Slice in display orientation with its translations.

    Attributes:
        subject: subject of the slice.
        number: number of the slice in the source.
        direction: `a2b` or `b2a`.
        input: [M, H, W] in [-1, 1], -1 outside the tissue, like the next three arrays.
        translated: translated to the scanner of the other domain.
        reconstructed: translated back; None without such a network.
        truth: scan of the same head on the other scanner; None if unknown.
        body: [H, W], non-zero is tissue.
        scores: printed name → value per modality, e.g. `cycle SSIM`.
        spacing: millimetres between rows and between columns.
    """

    subject: str
    number: int
    direction: str
    input: Array
    translated: Array
    body: Array
    reconstructed: Array | None = None
    truth: Array | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    spacing: tuple[float, float] = (1.0, 1.0)

    @property
    def source(self) -> str:
        """Domain of the input, e.g. `A`."""
        return self.direction[0].upper()

    @property
    def target(self) -> str:
        """Domain of the translation, e.g. `B`."""
        return self.direction[-1].upper()

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in millimetres."""
        rows, columns = self.body.shape
        return rows * self.spacing[0], columns * self.spacing[1]

    def tissue_of(self, map_: Array) -> Array:
        """Values of a map [h, w] on any grid at the pixels of tissue; all values without tissue."""
        rows, columns = self.body.shape
        y = np.arange(rows) * map_.shape[0] // rows
        x = np.arange(columns) * map_.shape[1] // columns
        inside = np.asarray(self.body) > 0
        return map_[y][:, x][inside] if inside.any() else map_.ravel()

    @property
    def images(self) -> dict[str, Array | None]:
        """Name → picture [M, H, W], or None where it is unknown."""
        return {
            "input": self.input,
            "translated": self.translated,
            "truth": self.truth,
            "reconstructed": self.reconstructed,
        }

    @property
    def frame(self) -> CropFrame:
        """Frame around the tissue."""
        return crop_frame(self.body, self.spacing)

    def difference(self, minuend: Array, subtrahend: Array, index: int) -> Array:
        """Difference of two arrays for one modality, NaN outside the tissue."""
        return np.where(np.asarray(self.body) > 0, minuend[index] - subtrahend[index], np.nan)

    def format_scores(self, index: int) -> str:
        """Printed scores of one modality."""
        return ", ".join(f"{name} {score_text(values[index])}" for name, values in self.scores.items())


@dataclass(frozen=True, kw_only=True)
class AttentionView:
    """Case with attention maps of the translation network, each on its own grid, in display orientation.

    Attributes:
        case: the slice.
        gate: [h, w] in (0, 1), a spatial gate; None without one.
        gate_name: name of its module.
        attention: [h, w] self-attention, averaged over all queries, with sum 1; None without one.
        attention_name: name of its module.
    """

    case: TranslationCase
    gate: Array | None = None
    gate_name: str = ""
    attention: Array | None = None
    attention_name: str = ""


def score_text(value: float) -> str:
    """Score with three decimals; a value just below 1 is not rounded up to 1.

    Example:
        >>> score_text(0.98765), score_text(0.9999)
        ('0.988', '> 0.999')
    """
    return "> 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def modality_label(name: str) -> str:
    """Printed name of a modality, e.g. `T1ce`."""
    return NAMES.get(name, name)


def common_half(cases: Sequence[TranslationCase]) -> tuple[float, float]:
    """Half height and half width that contain every case, so that all are drawn to the same scale."""
    halves = [case.frame.half for case in cases]
    return max(tall for tall, _ in halves), max(wide for _, wide in halves)


def grey_window(cases: Sequence[TranslationCase], index: int, *, inputs_only: bool = False) -> ColourScale:
    """Grey window of a modality in a figure, from the tissue of all its pictures."""
    values = []
    for case in cases:
        drawn = [case.input] if inputs_only else [case.input, case.translated, case.reconstructed, case.truth]
        inside = np.asarray(case.body) > 0
        values += [image[index][inside] for image in drawn if image is not None]
    return greyscale(values, name=INTENSITY)


def modality_index(modality: str, modalities: Sequence[str]) -> int:
    """Index of a modality in the arrays."""
    if modality not in modalities:
        raise ValueError(f"modality={modality!r}; expected one of {', '.join(modalities)}")
    return list(modalities).index(modality)


def format_small_print(text: str, phantom: bool) -> str:
    """Line of small print, which states that data are synthetic if they are."""
    return f"{text}; PHANTOM (synthetic heads)" if phantom else text
