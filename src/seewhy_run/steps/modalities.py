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
from seewhy_run.arrays.statistics import IntensityStatistics, evenly_spaced, measure
from seewhy_run.errors import RunError, suggest
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State
from seewhy_run.steps.scans import open_scans
from seewhy_run.steps.slices import SliceReading

__all__ = ["ReadModalities"]


@dataclass(frozen=True, kw_only=True)
class ReadModalities(SliceReading):
    """Makes `image` [S, C, H, W] and `body` [S, H, W] of a patient, with its `index` and `source`.

    A case is a NIfTI volume per modality, all on one grid, cut along the third axis as `seewhy prepare` does.

    Attributes:
        modalities: names of the scans of a case, in the order of the prepared data set.
        channels: of the network: a modality, and what is subtracted from it (another modality, `mirror` for its mirror
            image about the patient's midline, or nothing).
    """

    modalities: tuple[str, ...]
    channels: tuple[tuple[str, str], ...]

    kinds: ClassVar[tuple[str, ...]] = ("robust", "zscore", "window")

    def __post_init__(self) -> None:
        super().__post_init__()
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
        numbers, cut = self.cut(volumes, f"case {state.id}")
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
