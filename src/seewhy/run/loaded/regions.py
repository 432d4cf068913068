"""Explain a region of a volume with a loaded segmentation model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from seewhy.explain.base import Explainer
from seewhy.explain.maps import Maps
from seewhy.io.atomic import write_json
from seewhy.io.zarr.opening import open_source
from seewhy.probability import calibrated_probability
from seewhy.reporting.loaders.explain_loader import ExplainedSample
from seewhy.run.volumes.explain import Region, prepare_region, write_map
from seewhy.run.volumes.model import VolumeModel

__all__ = ["RegionChoice", "explain_region"]

RegionChoice = tuple[int, int, int, int, int, int]
"""First voxel and the one after the last along Z, Y and X."""


def explain_region(
    model: VolumeModel,
    path: Path,
    name: str,
    *,
    explainers: Mapping[str, Explainer],
    roi: RegionChoice | None,
    target: int | str | None,
    over: str,
    max_voxels: int,
    device: torch.device,
    save_dir: Path | None,
) -> list[ExplainedSample]:
    """Explain why voxels of a region are predicted as a class.

    Args:
        model: the networks.
        path: the volume.
        name: of the case.
        explainers: method name → explainer.
        roi: the region; None is the whole volume.
        target: name or index of the class; may be None for one foreground class.
        over: `predicted` or `region`, see `seewhy.run.volumes.explain.prepare_region`.
        max_voxels: largest region.
        device: where the network runs.
        save_dir: folder of maps and pictures; None writes nothing.
    """
    source = open_source(path)
    whole = [end for size in source.shape[1:] for end in (0, size)]
    region = prepare_region(
        model, source, roi=roi or whole, target=target, over=over, max_voxels=max_voxels, device=device
    )
    samples, records = [], []
    for method, explainer in explainers.items():
        maps = explainer(region.scores, region.image, region.target).cpu()
        written: list[Path] = []
        if save_dir is not None:
            records.append(write_map(save_dir, method, maps, None, region, model))
            written = [save_dir / records[-1]["store"], save_dir / records[-1]["store"].replace(".zarr", ".png")]
        samples.append(_make_sample(name, method, maps, region, written))
    if save_dir is not None:
        write_json(save_dir / "explanations.json", records)
    return samples


def _make_sample(name: str, method: str, maps: Maps, region: Region, files: list[Path]) -> ExplainedSample:
    """The record of one map."""
    scores = region.scores
    probability = calibrated_probability(maps.scores, 1.0, multi_label=scores.multi_label)[0]
    predicted = int(probability.argmax())
    names = scores.classes
    raw = {key: values[0].float().numpy() for key, values in maps.maps.items()}
    evidence = {key: values[0].float().numpy() for key, values in maps.evidence().items()}
    signed = maps.strength is None and maps.reading == "positive" and maps.signed
    box = [end for part in region.box for end in (part.start, part.stop)]
    return ExplainedSample(
        id=name,
        method=method,
        label=None,
        predicted=predicted,
        predicted_name=names[predicted] if predicted < len(names) else str(predicted),
        confidence=float(probability[predicted]),
        target=region.target,
        target_name=region.class_name,
        probability=float(maps.probability[0]),
        maps=raw,
        heatmaps=raw if signed else evidence,
        shares={key: float(share[0]) for key, share in maps.shares().items()},
        scores=[float(value) for value in maps.scores[0]],
        files=files,
        record={"roi": box, "voxels": int(scores.voxels.sum()), "layers": dict(maps.layers), "notes": list(maps.notes)},
    )
