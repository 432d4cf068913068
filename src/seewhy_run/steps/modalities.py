"""Read the slices of a patient from scans of several modalities; needs scipy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.intensity import background_of, finite, normalize_intensity
from seewhy_run.arrays.midline import Midline, find_midline
from seewhy_run.arrays.modalities import MIRROR, find_modality_body, make_channel
from seewhy_run.arrays.slicing import cut_volumes
from seewhy_run.arrays.statistics import IntensityStatistics, evenly_spaced, measure
from seewhy_run.errors import RunError, suggest
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State
from seewhy_run.steps.scans import open_scans

__all__ = ["ReadModalities"]

KINDS = ("robust", "zscore", "window")


@dataclass(frozen=True, kw_only=True)
class ReadModalities:
    """Makes `image` [S, C, H, W] and `body` [S, H, W] of a patient, with its `index` and `source`.

    A case is a NIfTI volume per modality, all on one grid, cut along the third axis as `seewhy prepare` does.

    Attributes:
        modalities: names of the scans of a case, in the order of the prepared data set.
        channels: of the network: a modality, and what is subtracted from it (another modality, `mirror` for its mirror
            image about the patient's midline, or nothing).
        kind: normalisation, see `seewhy_run.arrays.intensity.normalize_intensity`.
        over: its statistics are those of the whole `patient` or of each `slice`.
        percentiles: ends of the window over the body's pixels.
        window: how a volume's intensities were scaled before it was cut: `minmax`, `percentile` or `none`.
        dtype: type of the slices' files: `float32`, `float16`, `uint8` or `source`.
        every: slices 0, n, 2n … of a volume are taken.
        tissue_only: leave out slices in which nearly all pixels are background in all modalities.
    """

    modalities: tuple[str, ...]
    channels: tuple[tuple[str, str], ...]
    kind: str
    over: str
    percentiles: tuple[float, float]
    window: str = "none"
    dtype: str = "source"
    every: int = 1
    tissue_only: bool = False

    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ("image", "body", "index", "source")

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.over not in ("patient", "slice") or self.every < 1:
            raise RunError(f"read_modalities: kind={self.kind!r}, over={self.over!r} or every={self.every} is unknown")
        known = [*self.modalities, MIRROR, ""]
        named = [name for pair in self.channels for name in pair]
        unknown = next((name for name in named if name not in known), None)
        if unknown is not None or not self.channels:
            raise RunError(f"read_modalities: channel of {unknown!r}; {suggest(str(unknown), self.modalities)}")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Read the slices of a case."""
        scans = open_scans(state, self.modalities)
        first = next(iter(scans.values()))
        volumes = [[scan.values[:, :, k] for k in range(scan.values.shape[2])] for scan in scans.values()]
        options = {"window": self.window, "dtype": self.dtype, "every": self.every, "tissue_only": self.tissue_only}
        try:
            numbers, cut = cut_volumes(volumes, **options)  # type: ignore[arg-type]
        except RunError as error:
            raise RunError(f"case {state.id}: {error}") from None
        stacks = [np.stack(planes).astype(np.float32) for planes in cut]
        raw = finite(np.stack(stacks, axis=1), f"case {state.id}")
        chosen = raw[evenly_spaced(len(raw))]
        whole = [self._measure(chosen[:, k]) for k in range(len(self.modalities))]
        midline = self._find_midline(chosen, whole)
        images = [self._make_image(planes, whole, midline) for planes in raw]
        state.values |= {"image": np.stack(images), "body": np.stack([find_modality_body(x, whole) for x in raw])}
        state.values |= {"index": numbers, "source": first, "path": first.path}

    def _measure(self, images: NDArray[Any]) -> IntensityStatistics:
        return measure([image[None] for image in images], percentiles=self.percentiles)

    def _find_midline(self, chosen: NDArray[Any], statistics: Sequence[IntensityStatistics]) -> Midline | None:
        if not any(subtracted == MIRROR for _, subtracted in self.channels):
            return None
        body = np.stack([find_modality_body(image, statistics) for image in chosen])
        parts = [normalize_intensity(chosen[:, k], own, self.kind) for k, own in enumerate(statistics)]
        return find_midline(np.mean(parts, axis=0), body)

    def _make_image(
        self, planes: NDArray[Any], whole: Sequence[IntensityStatistics], midline: Midline | None
    ) -> NDArray[np.float32]:
        """The channels [C, H, W] of a raw slice [modalities, H, W]."""
        own = [self._measure(plane[None]) for plane in planes] if self.over == "slice" else whole
        parts, missing = {}, {}
        for name, plane, statistics in zip(self.modalities, planes, own, strict=True):
            parts[name] = normalize_intensity(plane[None], statistics, self.kind)[0]
            missing[name] = float(background_of(statistics, 1, self.kind)[0, 0, 0])
        return np.stack([make_channel(*pair, parts, missing, midline) for pair in self.channels])
