"""Explain a region of a volume, written as zarr with pictures: `explain.py run=… volume.input=… explain.roi=…`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from seewhy.errors import ConfigError, nearest
from seewhy.explain.base import Explainer
from seewhy.explain.judging.randomization import Randomization, RandomizationTest
from seewhy.explain.maps import Maps
from seewhy.io.atomic import replace_non_finite, write_json
from seewhy.io.names import safe_name
from seewhy.io.zarr.sink import write_part
from seewhy.io.zarr.source import Box, VolumeSource
from seewhy.io.zarr.store import local_folder
from seewhy.models.volumes.networks import RegionScores, first_output
from seewhy.models.volumes.segmentation import VolumeSegmentation
from seewhy.run.build import set_threads
from seewhy.run.explanations.explainers import build_explainers, load_explainer_nodes
from seewhy.run.folder import RunFolder
from seewhy.run.volumes.input import check_input, is_phantom, open_input
from seewhy.run.volumes.model import VolumeModel, load_volume_model
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.statistics import measure

__all__ = ["Region", "explain_volume", "prepare_region", "write_map"]


@dataclass(frozen=True)
class Region:
    """Region of a volume as the network's input, with a network that scores it.

    Attributes:
        source: the volume.
        box: position of the region.
        image: [1, C, Z, Y, X] float32, normalized, on the network's device.
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
        """Name of the target class."""
        return self.scores.classes[self.target]


def _judge_map(explainer: Explainer, maps: Maps, region: Region, *, seed: int) -> Randomization | None:
    """Compare a map with maps of the same network with re-initialized weights, and with re-initialized last layers."""
    test = RandomizationTest(explainer, cases=1, seed=seed)
    test.add(region.scores, region.image, maps)
    return test.result()


def write_map(
    folder: Path, name: str, maps: Maps, judged: Randomization | None, region: Region, model: VolumeModel
) -> dict[str, Any]:
    """Write one method's map as `<folder>/<stem>.zarr` with a picture next to it.

    Args:
        folder: of the explanations.
        name: of the method, as in `conf/explainer`.
        maps: on the CPU.
        judged: result of `_judge_map`, if it was called.
        region: explained region.
        model: the networks.

    Returns:
        Record of the map as plain data, which is also stored in the zarr.
    """
    values = maps.maps["image"][0].float().numpy()
    source, box = region.source, region.box
    stem = safe_name(f"{name}_{region.class_name.replace(' ', '_')}_{_format_spans(box, sign='_')}")
    record = {
        "store": f"{stem}.zarr", "method": name, "target": region.target, "class": region.class_name,
        "score": float(maps.scores[0, region.target]),
        "voxels": int(region.scores.voxels.sum()), "roi": [end for part in box for end in (part.start, part.stop)],
        "layer": maps.layers.get("image"), "baseline": maps.baseline, "notes": [*maps.notes, *_ensemble_notes(model)],
        "randomization": judged and replace_non_finite({"net": float(judged.net[0]), "head": float(judged.head[0])}),
        "warnings": _warnings(maps, judged, region.class_name),
        "input": source.path, "phantom": is_phantom(source.path), "model": model.name, "sha256": model.sha256,
    }  # fmt: skip
    write_part(folder / f"{stem}.zarr", values, source=source, box=box, attributes=record, name=name)
    signed = maps.strength is None and maps.reading == "positive" and maps.signed
    shown = values if signed else maps.evidence()["image"][0].float().numpy()
    _draw(folder / f"{stem}.png", shown, record, region, signed=signed)
    return record


def _format_spans(box: Box, *, sign: str = ", ") -> str:
    """Format a box, e.g. `z 10:42, y 0:32, x 5:37`; with another separator as part of a file name."""
    if sign == ", ":
        return ", ".join(f"{axis} {part.start}:{part.stop}" for axis, part in zip("zyx", box, strict=True))
    return sign.join(f"{axis}{part.start}-{part.stop}" for axis, part in zip("zyx", box, strict=True))


def _warnings(maps: Maps, judged: Randomization | None, name: str) -> list[str]:
    """Reasons not to trust a map, one sentence each."""
    warnings = [] if judged is None else judged.failures
    if not bool(maps.evidence()["image"].any()):
        warnings.append(f"this map has no evidence for {name}: all values are zero or negative")
    return warnings


def _ensemble_notes(model: VolumeModel) -> list[str]:
    count = len(model.networks)
    return [f"of the first of {count} networks; a prediction averages all of them"] if count > 1 else []


def _draw(path: Path, values: NDArray[np.float32], record: dict[str, Any], region: Region, *, signed: bool) -> None:
    """Draw three planes through the strongest point, with the outline of the scored voxels."""
    from seewhy.figures.colours import run_scale
    from seewhy.figures.labels import method_label
    from seewhy.figures.style import write_figure
    from seewhy.figures.volumes.planes import informative_point, read_planes
    from seewhy.figures.volumes.preview import volume_preview

    voxels = region.scores.voxels.cpu().numpy().astype(np.uint8)
    shape = values.shape
    scored = None if voxels.all() else voxels
    point = informative_point(values if scored is None else scored)
    (low, high), unit = run_scale([values], signed=signed)
    layer = f"layer {record['layer']}; " if record["layer"] else ""
    notes = "; ".join([*record["notes"], ""])
    figure = volume_preview(
        read_planes(region.image[0, 0].cpu().numpy().__getitem__, shape, point),
        read_planes(values.__getitem__, shape, point),
        kind="attribution" if signed else "evidence",
        truth_planes=None if scored is None else read_planes(scored.__getitem__, shape, point),
        truth_name="explained voxels",
        spacing=region.source.spacing,
        unit=region.source.unit,
        scale=(low, high),
        scale_name=method_label(record["method"]),
        title=f"{method_label(record['method'])} of {record['class']}, {_format_spans(region.box)}",
        origin=(region.box[0].start, region.box[1].start, region.box[2].start),
        note=f"{layer}{notes}{unit.replace('of the run', 'of this region')}",
        warnings=record["warnings"],
        phantom=record["phantom"],
    )
    write_figure(path, figure)


def explain_volume(config: DictConfig) -> None:
    """Explain why voxels of `explain.roi` are predicted as `explain.target`, and write maps and pictures.

    Raises:
        SeewhyError: no region, a region that is too large, or an unknown class or method.
    """
    node = config.explain
    if node is None or not node.methods:
        raise ConfigError("explain.methods must be given, e.g. explain.methods=[grad_cam,saliency]")
    nodes = load_explainer_nodes(node)
    explainers = build_explainers(nodes)
    set_threads(config)
    torch.manual_seed(config.seed)
    volume = config.volume
    source = open_input(volume, writes=False)
    model = load_volume_model(config)
    warning = check_input(source, model, volume)
    use_gpu = torch.cuda.is_available() and config.trainer.accelerator != "cpu"
    region = prepare_region(
        model, source, roi=node.roi, target=node.target, over=node.over, max_voxels=int(node.max_voxels),
        device=torch.device("cuda" if use_gpu else "cpu"),
    )  # fmt: skip
    folder = _folder(config)
    console = Console()
    if warning:
        console.print(f"[yellow]{warning}[/]", highlight=False)
    records = []
    for name, explainer in explainers.items():
        with console.status(f"{name} of {_format_spans(region.box)}"):
            maps = explainer(region.scores, region.image, region.target)
            judged = _judge_map(explainer, maps, region, seed=config.seed) if node.judge == "cheap" else None
            records.append(write_map(folder, name, maps.cpu(), judged, region, model))
        console.print(f"{name}: {folder / records[-1]['store']}", highlight=False, soft_wrap=True)
        for reason in records[-1]["warnings"]:
            console.print(f"  [yellow]{reason}[/]", highlight=False)
    write_json(folder / "explanations.json", records)
    console.print(f"explanations of {_format_spans(region.box)}: [bold]{folder}[/]", highlight=False, soft_wrap=True)


def prepare_region(
    model: VolumeModel,
    source: VolumeSource,
    *,
    roi: Sequence[int] | None,
    target: int | str | None,
    over: str,
    max_voxels: int,
    device: torch.device,
) -> Region:
    """Read the region, normalize it as in a prediction, and choose the voxels that are scored.

    Args:
        model: the networks, of which the first is explained.
        source: the volume.
        roi: [z0, z1, y0, y1, x0, x1].
        target: name or index of the class.
        over: `predicted` scores the voxels that are predicted as the target, `region` all of them.
        max_voxels: largest region.
        device: where the network runs.

    Raises:
        ConfigError: no region, a region that is too large, or an unknown class.
    """
    network = model.networks[0]
    steps = network.parts.steps if isinstance(network, VolumeSegmentation) else (1, 1, 1)
    box = _box(roi, max_voxels, source, steps)
    network = network.to(device).eval()
    values = source.read(box)
    image = torch.from_numpy(_normalize(values, source, model))[None].to(device)
    try:
        with torch.no_grad():
            logits = first_output(network(image))[0].float().cpu()
    except (RuntimeError, ValueError) as error:
        size = [part.stop - part.start for part in box]
        raise ConfigError(
            f"the network does not take {source.shape[0]} channel(s) of {size} voxels ({error}); choose another "
            "explain.roi, e.g. with sides that are multiples of 32, or other volume.channels"
        ) from error
    mode = model.mode or ("binary" if len(logits) < 3 else "multiclass")
    names = OutputFormat(mode=mode, channels=len(logits), class_order=model.class_order).names(
        dict(model.classes or {})
    )
    chosen = _find_target(target, names)
    multi_label = model.mode == "regions" or len(logits) == 1
    voxels = torch.ones(logits.shape[1:], dtype=torch.bool)
    if over == "predicted":
        voxels = logits[chosen] > 0 if multi_label else logits.argmax(dim=0) == chosen
        if not bool(voxels.any()):
            raise ConfigError(
                f"no voxel of {_format_spans(box)} is predicted as {names[chosen]}; choose another explain.roi or "
                "explain.target, or explain.over=region to score all voxels of the region"
            )
    layer = f"network.{network.parts.layer}" if isinstance(network, VolumeSegmentation) else None
    scores = RegionScores(network, voxels=voxels, classes=names, layer=layer, multi_label=multi_label).to(device)
    return Region(source, box, image, scores, chosen)


def _box(roi: Sequence[int] | None, max_voxels: int, source: VolumeSource, steps: Sequence[int]) -> Box:
    """`explain.roi`, extended to multiples of the network's strides inside the volume.

    Raises:
        ConfigError: no region, or a region that is outside, too large, or cannot be extended.
    """
    ends = [int(end) for end in roi or ()]
    shape = source.shape[1:]
    if len(ends) != 6 or any(not 0 <= a < b <= n for a, b, n in zip(ends[::2], ends[1::2], shape, strict=True)):
        raise ConfigError(
            f"explain.roi={ends or None}; expected [z0,z1,y0,y1,x0,x1] inside {list(shape)}: gradients need memory for "
            "all voxels at once, so only a part of the volume is explained"
        )
    spans = []
    for axis, a, b, size, step in zip("ZYX", ends[::2], ends[1::2], shape, steps, strict=True):
        length = math.ceil((b - a) / step) * step
        if length > size:
            raise ConfigError(
                f"explain.roi along {axis} has {b - a} voxels; the network takes multiples of {step}, and {length} do "
                f"not fit into the volume's {size}; choose {max(step, (b - a) // step * step)} or fewer"
            )
        start = min(max(0, a - (length - (b - a)) // 2), size - length)
        spans.append(slice(start, start + length))
    count = math.prod(part.stop - part.start for part in spans)
    if count > max_voxels:
        side = int(max_voxels ** (1 / 3))
        raise ConfigError(
            f"explain.roi has {count:,} voxels, explain.max_voxels={max_voxels:,}: a backward pass keeps all "
            f"activations. Choose a smaller region (about {side} along each axis), or raise explain.max_voxels"
        )
    return spans[0], spans[1], spans[2]


def _normalize(values: NDArray[Any], source: VolumeSource, model: VolumeModel) -> NDArray[np.float32]:
    """Normalize as in a prediction of the whole volume, with its statistics if the scheme needs them."""
    normalize = ChannelNormalization(model.normalization or [{"scheme": "none"}], channels=source.shape[0])
    if normalize.needs:
        normalize.bind(measure(source, nonzero=normalize.nonzero, percentiles=normalize.percentiles))
    out = np.empty(values.shape, np.float32)
    normalize(values, out)
    return out


def _find_target(target: Any, names: Sequence[str]) -> int:
    """Index of `explain.target`, which is a name or a number."""
    if isinstance(target, str) and target in names:
        return list(names).index(target)
    if isinstance(target, int) and 0 <= target < len(names):
        return target
    if target is None and len(names) <= 2:
        return len(names) - 1
    raise ConfigError(f"explain.target={target!r} is not a class of this model; {nearest(str(target), names)}")


def _folder(config: DictConfig) -> Path:
    """Folder of the maps: `explain.folder`, otherwise next to a local prediction, otherwise in the run."""
    if config.explain.folder is not None:
        return Path(config.explain.folder)
    local = None if config.volume.output is None else local_folder(str(config.volume.output))
    if local is not None:
        stem = re.sub(r"\.(zarr|nii(\.gz)?|nrrd|mha)$", "", local.name, flags=re.IGNORECASE)
        return local.with_name(f"{stem}_explanations")
    name = str(config.volume.input).rstrip("/").rpartition("/")[2].split(".")[0]
    return RunFolder(config.run).path / "explanations" / name
