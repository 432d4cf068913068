"""`explain.py run=… volume.input=… explain.roi=…`: maps of a region of a volume, written as zarr."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from seewhy.data.dataset_info import read_info
from seewhy.errors import ConfigError, nearest
from seewhy.explain.maps import Maps
from seewhy.io.atomic import write_json
from seewhy.io.volume_base import Box
from seewhy.io.volume_sink import create_sink
from seewhy.io.volume_source import VolumeSource, open_source
from seewhy.io.volume_store import local_folder
from seewhy.models.segmentation_explanation import RegionScores, first_output
from seewhy.models.volume_segmentation import VolumeSegmentation
from seewhy.run.build import set_threads
from seewhy.run.explainers import build_explainers, explainer_nodes
from seewhy.run.folder import RunFolder
from seewhy.run.volume_input import check_input
from seewhy.run.volume_model import VolumeModel, find_model
from seewhy.volumes.normalization import Normalization
from seewhy.volumes.statistics import measure

__all__ = ["explain_volume"]

OVER = ("predicted", "region")
CHUNK = 64


@dataclass(frozen=True)
class _Region:
    """What is explained: a piece of a volume as a network sees it, and a network that scores it."""

    source: VolumeSource
    box: Box
    values: NDArray[Any]
    image: torch.Tensor
    scores: RegionScores
    target: int


def explain_volume(config: DictConfig) -> None:
    """Explain why voxels of `explain.roi` were told to be of `explain.target`, and write maps and pictures.

    Raises:
        SeewhyError: no region, one that is too large, no such class or method.
    """
    node = config.explain
    if node is None or not node.methods:
        raise ConfigError("nothing to make: name explainers, e.g. explain.methods=[grad_cam,saliency]")
    nodes = explainer_nodes(node)
    explainers = build_explainers(nodes)
    set_threads(config)
    torch.manual_seed(config.seed)
    volume = config.volume
    channels = None if volume.channels is None else list(volume.channels)
    options: Any = OmegaConf.to_container(volume.storage_options, resolve=True)
    source = open_source(volume.input, level=volume.level, channels=channels, options=options)
    model = find_model(config)
    told = check_input(source, model, volume)
    region = _prepared(config, model, source)
    folder = _folder(config)
    console = Console()
    if told:
        console.print(f"[yellow]{told}[/]", highlight=False)
    records = []
    for name, explainer in explainers.items():
        maps = explainer(region.scores, region.image, region.target).cpu()
        records.append(_write(folder, name, maps, region, model))
        console.print(f"{name}: {folder / records[-1]['store']}", highlight=False, soft_wrap=True)
    write_json(folder / "explanations.json", records)
    console.print(f"explanations of {_spans(region.box)}: [bold]{folder}[/]", highlight=False, soft_wrap=True)


def _prepared(config: DictConfig, model: VolumeModel, source: VolumeSource) -> _Region:
    """Read the region, normalise it as a prediction would, and choose the voxels that are scored."""
    node = config.explain
    network = model.networks[0]
    steps = network.parts.steps if isinstance(network, VolumeSegmentation) else (1, 1, 1)
    box = _box(node, source, steps)
    device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
    network = network.to(device).eval()
    values = source.read(box)
    image = torch.from_numpy(_normalised(values, source, model))[None].to(device)
    with torch.no_grad():
        logits = first_output(network(image))[0].float().cpu()
    names = _names(model, len(logits))
    target = _target(node.target, names)
    multi_label = model.mode == "regions" or len(logits) == 1
    voxels = torch.ones(logits.shape[1:], dtype=torch.bool)
    if node.over not in OVER:
        raise ConfigError(f"explain.over={node.over!r} is unknown; {nearest(str(node.over), OVER)}")
    if node.over == "predicted":
        voxels = logits[target] > 0 if multi_label else logits.argmax(dim=0) == target
        if not bool(voxels.any()):
            raise ConfigError(
                f"no voxel of {_spans(box)} is predicted to be {names[target]}, so there is nothing to explain there; "
                "choose another explain.roi or explain.target, or explain.over=region for all voxels of it"
            )
    layer = f"network.{network.parts.layer}" if isinstance(network, VolumeSegmentation) else None
    scores = RegionScores(network, voxels=voxels, classes=names, layer=layer, multi_label=multi_label).to(device)
    return _Region(source, box, values, image, scores, target)


def _box(node: DictConfig, source: VolumeSource, steps: Sequence[int]) -> Box:
    """`explain.roi`, grown to whole steps of the network inside the volume.

    Raises:
        ConfigError: no region, one outside, one that is too large or cannot be grown.
    """
    ends = [int(end) for end in node.roi or ()]
    shape = source.shape[1:]
    if len(ends) != 6 or any(not 0 <= a < b <= n for a, b, n in zip(ends[::2], ends[1::2], shape, strict=True)):
        raise ConfigError(
            f"explain.roi={ends or None} must be [z0,z1,y0,y1,x0,x1] inside {list(shape)}: gradients of a region need "
            "memory for all of it at once, so a part of the volume is chosen"
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
    if count > node.max_voxels:
        side = int(node.max_voxels ** (1 / 3))
        raise ConfigError(
            f"explain.roi holds {count:,} voxels, explain.max_voxels allows {int(node.max_voxels):,}: a backward pass "
            f"keeps every activation of them. Choose a smaller region (about {side} along each axis), or allow more"
        )
    return spans[0], spans[1], spans[2]


def _normalised(values: NDArray[Any], source: VolumeSource, model: VolumeModel) -> NDArray[np.float32]:
    """As a prediction of the whole volume does, with its statistics where the scheme needs them."""
    normalize = Normalization(model.normalization or [{"scheme": "none"}], channels=source.shape[0])
    if normalize.needs:
        normalize.bind(measure(source, nonzero=normalize.nonzero, percentiles=normalize.percentiles))
    out = np.empty(values.shape, np.float32)
    normalize(values, out)
    return out


def _names(model: VolumeModel, channels: int) -> list[str]:
    """Names of the logits' channels."""
    known = dict(model.classes or {})
    if model.mode == "regions" and model.class_order:
        return [known.get(label, f"region {label}") for label in model.class_order]
    if channels == 1:
        return [known.get(1, "foreground")]
    return [known.get(number, f"class {number}") for number in range(channels)]


def _target(asked: Any, names: Sequence[str]) -> int:
    """Index of `explain.target`, a name or a number."""
    if isinstance(asked, str) and asked in names:
        return list(names).index(asked)
    if isinstance(asked, int) and 0 <= asked < len(names):
        return asked
    if asked is None and len(names) <= 2:
        return len(names) - 1
    raise ConfigError(f"explain.target={asked!r} is no class of this model; {nearest(str(asked), names)}")


def _folder(config: DictConfig) -> Path:
    """`explain.folder`; else beside the prediction, where it is on a disk; else in the run."""
    if config.explain.folder is not None:
        return Path(config.explain.folder)
    local = None if config.volume.output is None else local_folder(str(config.volume.output))
    if local is not None:
        return local.with_name(f"{local.name.removesuffix('.zarr')}_explanations")
    name = str(config.volume.input).rstrip("/").rpartition("/")[2].split(".")[0]
    return RunFolder(config.run).path / "explanations" / name


def _write(folder: Path, name: str, maps: Maps, region: _Region, model: VolumeModel) -> dict[str, Any]:
    """Write one method's map and its picture; gives its record."""
    values = maps.maps["image"][0].float().numpy()
    source, box = region.source, region.box
    stem = f"{name}_{region.scores.classes[region.target].replace(' ', '_')}_{_spans(box, sign='_')}"
    record = {
        "store": f"{stem}.zarr", "method": name, "target": region.target,
        "class": region.scores.classes[region.target], "score": float(maps.scores[0, region.target]),
        "voxels": int(region.scores.voxels.sum()), "roi": [end for part in box for end in (part.start, part.stop)],
        "layer": maps.layers.get("image"), "baseline": maps.baseline, "notes": list(maps.notes),
        "input": source.path, "model": model.name, "sha256": model.sha256,
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


def _draw(path: Path, values: NDArray[np.float32], record: dict[str, Any], region: _Region) -> None:
    """Three planes through the strongest place, with the outline of the voxels that were scored."""
    from seewhy.figures.colours import run_scale
    from seewhy.figures.methods import method_label
    from seewhy.figures.style import write_figure
    from seewhy.figures.volume_planes import informative_point, planes_of
    from seewhy.figures.volume_preview import volume_preview

    voxels = region.scores.voxels.cpu().numpy().astype(np.uint8)
    shape = values.shape
    scored = None if voxels.all() else voxels
    point = informative_point(values if scored is None else scored)
    (low, high), unit = run_scale([values], signed=True)
    figure = volume_preview(
        planes_of(region.image[0, 0].cpu().numpy().__getitem__, shape, point),
        planes_of(values.__getitem__, shape, point),
        kind="attribution",
        truth_planes=None if scored is None else planes_of(scored.__getitem__, shape, point),
        truth_name="explained voxels",
        spacing=region.source.spacing,
        unit=region.source.unit,
        scale=(low, high),
        scale_name=method_label(record["method"]),
        title=f"{method_label(record['method'])} of {record['class']}, {_spans(region.box)}",
        note=f"{unit}; numbers of voxels count from the region's corner",
        phantom=_is_phantom(region.source.path),
    )
    write_figure(path, figure)


def _is_phantom(path: str) -> bool:
    """Whether a volume is one of a synthetic data set, as the `dataset.json` of its folder's parent says."""
    return local_folder(path) is not None and bool(
        read_info(Path(path).resolve().parents[1] / "dataset.json").get("phantom", False)
    )


def _spans(box: Box, *, sign: str = ", ") -> str:
    """E.g. `z 10:42, y 0:32, x 5:37`; with another sign as part of a file's name."""
    if sign == ", ":
        return ", ".join(f"{axis} {part.start}:{part.stop}" for axis, part in zip("zyx", box, strict=True))
    return sign.join(f"{axis}{part.start}-{part.stop}" for axis, part in zip("zyx", box, strict=True))
