"""One translated slice as figures take it, and what all figures of translations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.figures.colours import ColourScale, greyscale
from seewhy.figures.translation.grid import CropFrame, crop_frame

__all__ = [
    "ARROW",
    "MINUS",
    "AttentionView",
    "TranslationCase",
    "common_half",
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
class TranslationCase:
    """One slice, upright, with what became of it.

    Attributes:
        subject: whose.
        number: of the slice, as in the source.
        direction: `a2b` or `b2a`.
        input: [M, H, W] in [-1, 1], -1 outside the tissue; so are the next three.
        translated: as the other domain's scanner.
        reconstructed: translated back; None where no network does.
        truth: what the other domain's scanner really saw of it; None where that is not known.
        body: [H, W], not zero is tissue.
        scores: name as it is printed → value per modality, e.g. `cycle SSIM`.
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
        """The domain it is of, e.g. `A`."""
        return self.direction[0].upper()

    @property
    def target(self) -> str:
        """The domain it was translated to."""
        return self.direction[-1].upper()

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in millimetres."""
        rows, columns = self.body.shape
        return rows * self.spacing[0], columns * self.spacing[1]

    def tissue_of(self, map_: Array) -> Array:
        """Values of a map [h, w] of any grid at the pixels of tissue; all of it where there is none."""
        rows, columns = self.body.shape
        y = np.arange(rows) * map_.shape[0] // rows
        x = np.arange(columns) * map_.shape[1] // columns
        inside = np.asarray(self.body) > 0
        return map_[y][:, x][inside] if inside.any() else map_.ravel()

    @property
    def frame(self) -> CropFrame:
        """Around its tissue."""
        return crop_frame(self.body, self.spacing)

    def difference(self, one: Array, other: Array, place: int) -> Array:
        """One less the other of a modality, NaN outside the tissue."""
        return np.where(np.asarray(self.body) > 0, one[place] - other[place], np.nan)

    def said(self, place: int) -> str:
        """Its scores for a modality in words."""
        return ", ".join(f"{name} {score_text(values[place])}" for name, values in self.scores.items())


@dataclass(frozen=True, kw_only=True)
class AttentionView:
    """A case with maps of the network that translated it, on their own grids, upright.

    Attributes:
        case: the slice.
        gate: [h, w] in (0, 1), a spatial gate; None where there is none.
        gate_name: its module.
        attention: [h, w] mean over all queries of self-attention, summing to 1; None where there is none.
        attention_name: its module.
    """

    case: TranslationCase
    gate: Array | None = None
    gate_name: str = ""
    attention: Array | None = None
    attention_name: str = ""


def score_text(value: float) -> str:
    """Three decimals; what is not quite 1 is not rounded to it."""
    return "> 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def modality_label(name: str) -> str:
    """As papers write it, e.g. `T1ce`."""
    return NAMES.get(name, name)


def common_half(cases: Sequence[TranslationCase]) -> tuple[float, float]:
    """Half the height and width that hold every case, so that all are drawn to one scale."""
    halves = [case.frame.half for case in cases]
    return max(tall for tall, _ in halves), max(wide for _, wide in halves)


def grey_window(cases: Sequence[TranslationCase], place: int, *, inputs_only: bool = False) -> ColourScale:
    """The grey window of a modality in a figure, from the tissue of all that is drawn of it."""
    values = []
    for case in cases:
        drawn = [case.input] if inputs_only else [case.input, case.translated, case.reconstructed, case.truth]
        inside = np.asarray(case.body) > 0
        values += [one[place][inside] for one in drawn if one is not None]
    return greyscale(values, name=INTENSITY)


def modality_index(modality: str, modalities: Sequence[str]) -> int:
    """Position of a modality."""
    if modality not in modalities:
        raise ValueError(f"modality={modality!r}; expected one of {', '.join(modalities)}")
    return list(modalities).index(modality)


def format_small_print(text: str, phantom: bool) -> str:
    """A line of small print; of synthetic data it says so."""
    return f"{text}; PHANTOM (synthetic heads)" if phantom else text
