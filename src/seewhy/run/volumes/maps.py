"""Maps of a region of a volume: tested against what was learned, written as zarr, drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seewhy.explain.base import Explainer
from seewhy.explain.judging.randomization import Randomization, RandomizationTest
from seewhy.explain.maps import Maps
from seewhy.io.zarr.opening import VolumeSource
from seewhy.io.zarr.sink import create_sink
from seewhy.io.zarr.source import Box
from seewhy.models.volumes.region_scores import RegionScores
from seewhy.run.volumes.input import is_phantom
from seewhy.run.volumes.model import VolumeModel

__all__ = ["Region", "judge_map", "spans", "write_map"]

CHUNK = 64


@dataclass(frozen=True)
class Region:
    """What is explained: a piece of a volume as a network sees it, and a network that scores it.

    Attributes:
        source: the volume.
        box: the piece.
        image: [1, C, Z, Y, X] float32, normalised, on the network's device.
        scores: the network and the voxels that are scored.
        target: index of the class.
    """

    source: VolumeSource
    box: Box
    image: torch.Tensor
    scores: RegionScores
    target: int

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return self.scores.classes[self.target]


def judge_map(explainer: Explainer, maps: Maps, region: Region, *, seed: int) -> Randomization | None:
    """Compare a map with those of the same network with weights, or last layers, drawn anew.

    Args:
        explainer: what made the map.
        maps: the map.
        region: what it is of.
        seed: of the draws.
    """
    test = RandomizationTest(explainer, cases=1, seed=seed)
    test.add(region.scores, region.image, maps)
    return test.result()


def write_map(
    folder: Path, name: str, maps: Maps, judged: Randomization | None, region: Region, model: VolumeModel
) -> dict[str, Any]:
    """Write one method's map as `<folder>/<stem>.zarr` with its picture beside it.

    Args:
        folder: of the explanations.
        name: of the method, as its file in `conf/explainer` is called.
        maps: on the CPU.
        judged: see `judge_map`.
        region: what is explained.
        model: whose networks they are.

    Returns:
        Its record: plain data, also kept in the store.
    """
    values = maps.maps["image"][0].float().numpy()
    source, box = region.source, region.box
    stem = f"{name}_{region.class_name.replace(' ', '_')}_{spans(box, sign='_')}"
    record = {
        "store": f"{stem}.zarr", "method": name, "target": region.target, "class": region.class_name,
        "score": float(maps.scores[0, region.target]),
        "voxels": int(region.scores.voxels.sum()), "roi": [end for part in box for end in (part.start, part.stop)],
        "layer": maps.layers.get("image"), "baseline": maps.baseline, "notes": [*maps.notes, *_left_out(model)],
        "randomization": None if judged is None else {"net": _known(judged.net), "head": _known(judged.head)},
        "warnings": _warnings(maps, judged, region.class_name),
        "input": source.path, "phantom": is_phantom(source.path), "model": model.name, "sha256": model.sha256,
    }  # fmt: skip
    spacing, origin = source.spacing, source.translation or (0.0, 0.0, 0.0)
    shift = [first + part.start * step for first, part, step in zip(origin, box, spacing or (1.0,) * 3, strict=True)]
    sink = create_sink(
        folder / f"{stem}.zarr", shape=values.shape, dtype=np.float32, chunk=(CHUNK,) * 3,
        shard=tuple(math.ceil(size / CHUNK) * CHUNK for size in values.shape), spacing=spacing, translation=shift,
        unit=source.unit, attributes=record, name=name, overwrite=True,
    )  # fmt: skip
    sink.write((slice(0, values.shape[0]), slice(0, values.shape[1]), slice(0, values.shape[2])), values)
    sink.finish()
    _draw(folder / f"{stem}.png", values, record, region)
    return record


def spans(box: Box, *, sign: str = ", ") -> str:
    """E.g. `z 10:42, y 0:32, x 5:37`; with another sign as part of a file's name."""
    if sign == ", ":
        return ", ".join(f"{axis} {part.start}:{part.stop}" for axis, part in zip("zyx", box, strict=True))
    return sign.join(f"{axis}{part.start}-{part.stop}" for axis, part in zip("zyx", box, strict=True))


def _warnings(maps: Maps, judged: Randomization | None, name: str) -> list[str]:
    """Why a map should not be believed, a sentence each."""
    found = [] if judged is None else judged.failures
    if not bool(maps.evidence()["image"].any()):
        found.append(f"nothing in this map speaks for {name}: all of it is zero or against it")
    return found


def _left_out(model: VolumeModel) -> list[str]:
    count = len(model.networks)
    return [f"of the first of {count} networks, which a prediction averages"] if count > 1 else []


def _known(values: Sequence[float] | NDArray[Any]) -> float | None:
    """The single case's value; None where it is not known."""
    value = float(values[0])
    return value if math.isfinite(value) else None


def _draw(path: Path, values: NDArray[np.float32], record: dict[str, Any], region: Region) -> None:
    """Three planes through the strongest place, with the outline of the voxels that were scored."""
    from seewhy.figures.colours import run_scale
    from seewhy.figures.labels import method_label
    from seewhy.figures.style import write_figure
    from seewhy.figures.volumes.planes import informative_point, read_planes
    from seewhy.figures.volumes.preview import volume_preview

    voxels = region.scores.voxels.cpu().numpy().astype(np.uint8)
    shape = values.shape
    scored = None if voxels.all() else voxels
    point = informative_point(values if scored is None else scored)
    (low, high), unit = run_scale([values], signed=True)
    layer = f"layer {record['layer']}; " if record["layer"] else ""
    notes = "; ".join([*record["notes"], ""])
    figure = volume_preview(
        read_planes(region.image[0, 0].cpu().numpy().__getitem__, shape, point),
        read_planes(values.__getitem__, shape, point),
        kind="attribution",
        truth_planes=None if scored is None else read_planes(scored.__getitem__, shape, point),
        truth_name="explained voxels",
        spacing=region.source.spacing,
        unit=region.source.unit,
        scale=(low, high),
        scale_name=method_label(record["method"]),
        title=f"{method_label(record['method'])} of {record['class']}, {spans(region.box)}",
        note=f"{layer}{notes}{unit}; numbers of voxels count from the region's corner",
        warnings=record["warnings"],
        phantom=record["phantom"],
    )
    write_figure(path, figure)
