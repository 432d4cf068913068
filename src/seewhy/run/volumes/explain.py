"""`explain.py run=… volume.input=… explain.roi=…`: maps of a region of a volume, written as zarr."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.console import Console

from seewhy.errors import ConfigError, nearest
from seewhy.io.atomic import write_json
from seewhy.io.zarr.opening import VolumeSource
from seewhy.io.zarr.source import Box
from seewhy.io.zarr.store import local_folder
from seewhy.models.volumes.region_scores import RegionScores, first_output
from seewhy.models.volumes.segmentation import VolumeSegmentation
from seewhy.run.build import set_threads
from seewhy.run.explainers import build_explainers, explainer_nodes
from seewhy.run.folder import RunFolder
from seewhy.run.volumes.input import check_input, open_input
from seewhy.run.volumes.maps import Region, judge_map, spans, write_map
from seewhy.run.volumes.model import VolumeModel, find_model
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.statistics import measure

__all__ = ["explain_volume"]

OVER = ("predicted", "region")
JUDGING = ("cheap", "none")


def explain_volume(config: DictConfig) -> None:
    """Explain why voxels of `explain.roi` were told to be of `explain.target`, and write maps and pictures.

    Raises:
        SeewhyError: no region, one that is too large, no such class or method.
    """
    node = config.explain
    if node is None or not node.methods:
        raise ConfigError("nothing to make: name explainers, e.g. explain.methods=[grad_cam,saliency]")
    if node.judge not in JUDGING:
        raise ConfigError(f"explain.judge={node.judge!r} is unknown; {nearest(str(node.judge), JUDGING)}")
    nodes = explainer_nodes(node)
    explainers = build_explainers(nodes)
    set_threads(config)
    torch.manual_seed(config.seed)
    volume = config.volume
    source = open_input(volume, writes=False)
    model = find_model(config)
    told = check_input(source, model, volume)
    region = _prepared(config, model, source)
    folder = _folder(config)
    console = Console()
    if told:
        console.print(f"[yellow]{told}[/]", highlight=False)
    records = []
    for name, explainer in explainers.items():
        with console.status(f"{name} of {spans(region.box)}"):
            maps = explainer(region.scores, region.image, region.target)
            judged = judge_map(explainer, maps, region, seed=config.seed) if node.judge == "cheap" else None
            records.append(write_map(folder, name, maps.cpu(), judged, region, model))
        console.print(f"{name}: {folder / records[-1]['store']}", highlight=False, soft_wrap=True)
        for warning in records[-1]["warnings"]:
            console.print(f"  [yellow]{warning}[/]", highlight=False)
    write_json(folder / "explanations.json", records)
    console.print(f"explanations of {spans(region.box)}: [bold]{folder}[/]", highlight=False, soft_wrap=True)


def _prepared(config: DictConfig, model: VolumeModel, source: VolumeSource) -> Region:
    """Read the region, normalise it as a prediction would, and choose the voxels that are scored."""
    node = config.explain
    network = model.networks[0]
    steps = network.parts.steps if isinstance(network, VolumeSegmentation) else (1, 1, 1)
    box = _box(node, source, steps)
    device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
    network = network.to(device).eval()
    values = source.read(box)
    image = torch.from_numpy(_normalised(values, source, model))[None].to(device)
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
    target = _target(node.target, names)
    multi_label = model.mode == "regions" or len(logits) == 1
    voxels = torch.ones(logits.shape[1:], dtype=torch.bool)
    if node.over not in OVER:
        raise ConfigError(f"explain.over={node.over!r} is unknown; {nearest(str(node.over), OVER)}")
    if node.over == "predicted":
        voxels = logits[target] > 0 if multi_label else logits.argmax(dim=0) == target
        if not bool(voxels.any()):
            raise ConfigError(
                f"no voxel of {spans(box)} is predicted to be {names[target]}, so there is nothing to explain there; "
                "choose another explain.roi or explain.target, or explain.over=region for all voxels of it"
            )
    layer = f"network.{network.parts.layer}" if isinstance(network, VolumeSegmentation) else None
    scores = RegionScores(network, voxels=voxels, classes=names, layer=layer, multi_label=multi_label).to(device)
    return Region(source, box, image, scores, target)


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
    normalize = ChannelNormalization(model.normalization or [{"scheme": "none"}], channels=source.shape[0])
    if normalize.needs:
        normalize.bind(measure(source, nonzero=normalize.nonzero, percentiles=normalize.percentiles))
    out = np.empty(values.shape, np.float32)
    normalize(values, out)
    return out


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
