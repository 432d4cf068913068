"""Class activation maps of a patient's slices, their refinement by affinities and intensities, and regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.activations import sigmoid, softmax
from seewhy_run.arrays.regions import find_regions
from seewhy_run.arrays.resizing import interpolate
from seewhy_run.errors import RunError
from seewhy_run.fields import check_names
from seewhy_run.graphs import Graph
from seewhy_run.steps.base import State
from seewhy_run.steps.refinement import refine_by_intensity, walk_along

__all__ = ["ActivationMaps", "Regions"]

Maps = NDArray[np.float32]
NAMES = ("cam", "affinity", "segmentation")
POOLINGS = ("lse", "max", "topk", "graph")


@dataclass(frozen=True, kw_only=True)
class ActivationMaps:
    """Makes `probability` [S, K] and `maps`, name → [S, K, H, W] in [0, 1].

    The network has the outputs `activation` (local logits [B, K, h, w]), and `logits`, `segmentation` and `affinity`
    where the description needs them.

    Attributes:
        graph: name of the network.
        maps: names of the maps: `cam`, `affinity`, `segmentation`.
        pooling: how local logits become the logits of a slice: `lse`, `max`, `topk`, or `graph` (the network's output).
        sharpness: of `lse`.
        fraction: of the pixels, of `topk`.
        scales: sizes of the views.
        mirrors: axes along which each view is mirrored too.
        normalize: `sigmoid` or `minmax`, see `seewhy.nets.cam.MultiScaleCAM`.
        gate: classes with a probability not above it have empty maps; None keeps all.
        background: score of the background before the random walk.
        walk: `radius`, `power`, `steps` and `damping` of the random walk.
        refinement: `dilations`, `iterations`, `downscale`, `scale` and `position_weight`; None leaves it out.
        batch: slices at a time.
    """

    graph: str
    maps: tuple[str, ...]
    pooling: str
    sharpness: float
    fraction: float
    scales: tuple[float, ...]
    mirrors: tuple[tuple[int, ...], ...]
    normalize: str
    gate: float | None
    background: float
    walk: dict[str, float] | None
    refinement: dict[str, Any] | None
    batch: int

    needs: ClassVar[tuple[str, ...]] = ("image",)
    gives: ClassVar[tuple[str, ...]] = ("maps", "probability")

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS or self.normalize not in ("sigmoid", "minmax") or self.batch < 1:
            raise RunError(f"activation_maps: pooling={self.pooling!r} or normalize={self.normalize!r} is unknown")
        if not self.scales or min(self.scales) <= 0 or ("affinity" in self.maps and self.walk is None):
            raise RunError(f"activation_maps: scales={self.scales} or walk={self.walk} cannot be used")
        if not set(self.maps) <= set(NAMES):
            raise RunError(f"activation_maps: maps={', '.join(self.maps)}; expected some of {', '.join(NAMES)}")
        if self.sharpness <= 0 or not 0 < self.fraction <= 1 or not 0 <= self.background <= 1:
            raise RunError(
                f"activation_maps: sharpness={self.sharpness}, fraction={self.fraction}, background={self.background}; "
                "expected above 0, above 0 to 1, and 0 to 1"
            )
        if self.gate is not None and not 0 <= self.gate < 1:
            raise RunError(f"activation_maps: gate={self.gate}; expected a probability, 0 or more and below 1")
        check_names(walk_along, self.walk, "activation_maps: walk")
        check_names(refine_by_intensity, self.refinement, "activation_maps: refinement")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Compute the maps of a case."""
        image = state.values["image"]
        parts = [self._compute(image[n : n + self.batch], graphs[self.graph]) for n in range(0, len(image), self.batch)]
        state.values["probability"] = np.concatenate([probability for probability, _ in parts])
        state.values["maps"] = {name: np.concatenate([maps[name] for _, maps in parts]) for name in self.maps}

    def _compute(self, image: Maps, graph: Graph) -> tuple[Maps, dict[str, Maps]]:
        first = graph(image)
        probability = sigmoid(self._pool(first))
        present = np.ones(probability.shape, bool) if self.gate is None else probability > self.gate
        maps: dict[str, Maps] = {}
        if "cam" in self.maps or "affinity" in self.maps:
            cam, largest = self._average_views(image, graph, first)
            maps["cam"] = cam * present[:, :, None, None]
            if "affinity" in self.maps:
                maps["affinity"] = self._walk(image, maps["cam"], present, largest)
        if "segmentation" in self.maps:
            size = (image.shape[2], image.shape[3])
            maps["segmentation"] = softmax(interpolate(first["segmentation"], size))[:, 1:]
        return probability, maps

    def _pool(self, outputs: Mapping[str, Maps]) -> Maps:
        """Logits [B, K] of local logits."""
        if self.pooling == "graph":
            return outputs["logits"]
        local = outputs["activation"].reshape(*outputs["activation"].shape[:2], -1)
        if self.pooling == "max":
            return np.asarray(local.max(axis=2))
        if self.pooling == "lse":
            raised = self.sharpness * local
            top = raised.max(axis=2, keepdims=True)
            total = np.log(np.exp(raised - top).sum(axis=2)) + top[..., 0] - np.log(local.shape[2])
            return np.asarray(total / self.sharpness, np.float32)
        count = max(1, round(self.fraction * local.shape[2]))
        return np.asarray(np.sort(local, axis=2)[..., -count:].mean(axis=2))

    def _average_views(self, image: Maps, graph: Graph, first: dict[str, Maps]) -> tuple[Maps, dict[str, Maps]]:
        """Maps [B, K, H, W] over all scales and mirrors, and the outputs of the largest scale."""
        size = (image.shape[2], image.shape[3])
        totals, largest = [], first
        for scale in self.scales:
            sides = tuple(max(1, round(side * scale)) for side in size)
            scaled = image if scale == 1.0 else interpolate(image, (sides[0], sides[1]))
            outputs = first if scale == 1.0 else graph(scaled)
            if scale == max(self.scales):
                largest = outputs
            views = [interpolate(outputs["activation"], size)]
            for axes in self.mirrors:
                mirrored = graph(np.ascontiguousarray(np.flip(scaled, axes)))["activation"]
                views.append(np.flip(interpolate(mirrored, size), axes))
            stacked = np.stack(views)
            totals.append(stacked.mean(0) if self.normalize == "sigmoid" else np.maximum(stacked.max(0), 0))
        total = np.sum(totals, axis=0, dtype=np.float32)
        if self.normalize == "sigmoid":
            return sigmoid(total / np.float32(len(self.scales))), largest
        shifted = total - total.min(axis=(2, 3), keepdims=True)
        return shifted / (shifted.max(axis=(2, 3), keepdims=True) + np.float32(1e-5)), largest

    def _walk(self, image: Maps, cam: Maps, present: NDArray[np.bool_], outputs: Mapping[str, Maps]) -> Maps:
        """Maps [B, K, H, W] after the random walk along affinities, and refinement by intensities."""
        size = (image.shape[2], image.shape[3])
        tokens = (outputs["activation"].shape[2], outputs["activation"].shape[3])
        scores = np.where(present[:, :, None, None], interpolate(cam, tokens), np.float32(-np.inf))
        shares = softmax(np.pad(scores, ((0, 0), (1, 0), (0, 0), (0, 0)), constant_values=self.background))
        channels = walk_along(shares, outputs["affinity"], **(self.walk or {}))
        if self.refinement is not None:
            channels = refine_by_intensity(image, channels, **self.refinement)
        channels = interpolate(channels, size)
        return np.asarray(channels / np.maximum(channels.sum(axis=1, keepdims=True), 1e-8), np.float32)[:, 1:]


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Adds the map `refined`: the patient's regions, chosen by another map and the intensities.

    Attributes:
        evidence: name of the other map.
        options: of `seewhy_run.arrays.regions.find_regions`.
        channel: whose intensities are used.
        weigh_slices: multiply the evidence of a slice by its probability first.
        presence_threshold: per class; a patient whose highest probability is below it has no region.
        kept: names of the maps that are written in the end.
    """

    evidence: str
    options: dict[str, Any]
    channel: int
    weigh_slices: bool
    presence_threshold: tuple[float, ...]
    kept: tuple[str, ...]

    needs: ClassVar[tuple[str, ...]] = ("image", "body", "maps", "probability")
    gives: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.channel < 0:
            raise RunError(f"regions: channel={self.channel}; expected 0 or more")
        check_names(find_regions, self.options, "regions: options")

    def run(self, state: State, graphs: Mapping[str, Graph]) -> None:
        """Choose the regions of a case."""
        values, maps = state.values, state.values["maps"]
        if len(self.presence_threshold) != values["probability"].shape[1]:
            raise RunError(
                f"regions: {len(self.presence_threshold)} thresholds, but the network gives "
                f"{values['probability'].shape[1]} classes; export again"
            )
        intensity = values["image"][:, self.channel]
        evidence = maps[self.evidence]
        if self.weigh_slices:
            evidence = evidence * values["probability"][:, :, None, None]
        try:
            regions = [
                find_regions(intensity, evidence[:, k], values["body"], **self.options)
                for k in range(evidence.shape[1])
            ]
        except TypeError as error:
            raise RunError(f"regions: {error}") from error
        highest = values["probability"].max(axis=0)
        threshold = np.asarray(self.presence_threshold, np.float32)
        factor = np.where(highest >= threshold, 1, np.float32(0.5) * highest / np.maximum(threshold, 1e-6))
        refined = np.stack(regions, axis=1) * factor.astype(np.float32)[None, :, None, None]
        values["maps"] = {name: {**maps, "refined": refined}[name] for name in self.kept}
