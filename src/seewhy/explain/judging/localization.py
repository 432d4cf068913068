"""Localization of evidence: scores against annotated masks with their chance level, shares of slices and regions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import ConfigError, DataError, nearest
from seewhy.explain.judging.similarity import join_maps
from seewhy.explain.maps import Maps

__all__ = [
    "Localization",
    "Threshold",
    "average_precision",
    "compute_region_shares",
    "compute_slice_shares",
    "join_masks",
    "measure_localization",
    "tune_threshold",
]

SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Threshold that turns a map into a region.

    Attributes:
        kind: `area` selects a share of the pixels, the highest ones; `scale` selects evidence of at least a share of
            the scale of the run.
        value: the share, in (0, 1).
        scale: scale of the run, in units of evidence.
        iou: mean IoU on the samples that it was tuned on.
    """

    kind: Literal["area", "scale"]
    value: float
    scale: float = 1.0
    iou: float = float("nan")

    def region(self, evidence: Tensor) -> Tensor:
        """Return the region, [P] bool, of evidence [P]; pixels without evidence are never part of it.

        Example:
            >>> import torch
            >>> from seewhy.explain import Threshold
            >>> Threshold(kind="area", value=0.5).region(torch.tensor([0.1, 0.9, 0.0, 0.4]))
            tensor([False,  True, False,  True])
        """
        if self.kind == "scale":
            return (evidence >= self.value * self.scale) & (evidence > 0)
        count = max(round(self.value * evidence.numel()), 1)
        return (evidence >= evidence.topk(count).values[-1]) & (evidence > 0)


@dataclass(frozen=True, kw_only=True)
class Localization:
    """Scores of each sample over all its inputs together, [B] float64; NaN if the mask is empty.

    Attributes:
        mask_share: share of the mask in all pixels; the chance level of all other scores except `iou`.
        pointing: 1 if the highest pixel is in the mask (Zhang 2018); with ties, the share of them inside.
        energy: share of the evidence inside the mask; 0 without evidence.
        auprc: exact area under the precision-recall curve; equal values form one step.
        iou: IoU of the region above the threshold; None without a threshold.
        by_input: input → share of its evidence inside its mask.
    """

    mask_share: Tensor
    pointing: Tensor
    energy: Tensor
    auprc: Tensor
    iou: Tensor | None
    by_input: dict[str, Tensor]


def measure_localization(
    maps: Maps, masks: Tensor | Mapping[str, Tensor], *, threshold: Threshold | None = None
) -> Localization:
    """Compare evidence with masks; evidence in an input without a mask counts as outside.

    Args:
        maps: maps of one or more inputs.
        masks: [B, *s], above 0 inside, of the only input; or input → mask.
        threshold: for the IoU, from `tune_threshold` on other samples.

    Raises:
        ConfigError: a mask of an unknown input, or a mask whose shape differs from its map.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient, measure_localization
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[..., 1:3, 1:3] = 1
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
        >>> _ = nn.init.constant_(net[1].weight, 1)
        >>> maps = InputXGradient()(net, image, target=1)
        >>> scores = measure_localization(maps, image[:, 0] > 0)
        >>> scores.energy, scores.mask_share
        (tensor([1.], dtype=torch.float64), tensor([0.2500], dtype=torch.float64))
    """
    evidence, inside = maps.evidence(), _check_masks(maps, masks)
    values, mask = join_maps(evidence), join_maps(inside)
    highest = values == values.amax(dim=1, keepdim=True)
    sums = {name: _sum_rows(one.flatten(1), inside[name].flatten(1)) for name, one in evidence.items()}
    scores = {
        "mask_share": mask.sum(dim=1).double() / mask.shape[1],
        "pointing": (highest & mask).sum(dim=1) / highest.sum(dim=1).double(),
        "energy": _compute_energy(*torch.stack(list(sums.values())).sum(dim=0)),
    }
    pairs = [_sort(*row) for row in zip(values, mask, strict=True)]
    scores["auprc"] = _to_column([_compute_precision(*pair) for pair in pairs], values)
    if threshold is not None:
        scores["iou"] = _to_column([_try_thresholds([threshold], *pair)[0] for pair in pairs], values)
    empty = ~mask.any(dim=1)
    scores = {name: score.masked_fill(empty, float("nan")) for name, score in scores.items()}
    iou = scores.pop("iou", None)
    by_input = {next(iter(evidence)): scores["energy"]} if len(evidence) == 1 else {}
    for name in evidence if len(evidence) > 1 else ():
        without = ~inside[name].flatten(1).any(dim=1)
        by_input[name] = _compute_energy(*sums[name]).masked_fill(without, float("nan"))
    return Localization(iou=iou, by_input=by_input, **scores)


def tune_threshold(pairs: Iterable[tuple[Tensor, Tensor]]) -> Threshold:
    """Select the threshold with the highest mean IoU on validation samples, among shares of area and of the scale.

    The scale is the mean over samples of the highest evidence.

    Args:
        pairs: evidence [P] and mask [P] of each sample, e.g. rows of `join_maps` and `join_masks`.

    Raises:
        DataError: no sample has a mask.

    Example:
        >>> import torch
        >>> from seewhy.explain import tune_threshold
        >>> evidence = torch.tensor([0.9, 0.8, 0.1, 0.0])
        >>> best = tune_threshold([(evidence, evidence > 0.5)])
        >>> best.kind, best.value, best.iou
        ('area', 0.4, 1.0)
    """
    with_mask = [(values.flatten(), mask.flatten() > 0) for values, mask in pairs if bool((mask > 0).any())]
    if not with_mask:
        raise DataError("no validation sample has a mask; masks are needed to tune the threshold")
    scale = float(torch.stack([values.max() for values, _ in with_mask]).double().mean())
    options = [Threshold(kind="area", value=value) for value in SHARES]
    options += [Threshold(kind="scale", value=value, scale=scale) for value in (step / 20 for step in range(1, 20))]
    means = np.mean([_try_thresholds(options, *_sort(*pair)) for pair in with_mask], axis=0).tolist()
    best = max(range(len(options)), key=means.__getitem__)
    return replace(options[best], iou=means[best])


def _sort(values: Tensor, mask: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sort all values [P] and those inside the mask, lowest first; numpy sorts ten times as fast as torch."""
    if values.device.type != "cpu":
        return values.sort().values.cpu().numpy(), values[mask].sort().values.cpu().numpy()
    return np.sort(values.numpy()), np.sort(values[mask].numpy())


def _try_thresholds(options: Sequence[Threshold], every: NDArray[Any], inside: NDArray[Any]) -> NDArray[Any]:
    """Compute the IoU of the region of each threshold, [len(options)], from sorted values; 0 for an empty mask."""
    lowest = []
    for option in options:
        area = max(round(option.value * len(every)), 1)
        lowest.append(every[-area] if option.kind == "area" else every.dtype.type(option.value * option.scale))
    limits = np.array(lowest, dtype=every.dtype)

    def count(ordered: NDArray[Any]) -> NDArray[Any]:
        """Count the values that are at least the limit and above 0."""
        first = np.maximum(np.searchsorted(ordered, limits), np.searchsorted(ordered, 0, side="right"))
        return len(ordered) - first

    hits = count(inside)
    result: NDArray[Any] = hits / np.maximum(count(every) + len(inside) - hits, 1)
    return result


def _to_column(numbers: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor([float(number) for number in numbers], dtype=torch.float64, device=like.device)


def join_masks(maps: Maps, masks: Tensor | Mapping[str, Tensor]) -> Tensor:
    """Join the masks of all inputs to [B, P] bool, in the order of `join_maps`."""
    return join_maps(_check_masks(maps, masks))


def average_precision(values: Tensor, mask: Tensor) -> Tensor:
    """Compute Σ precision × step of recall over all distinct values, a scalar; NaN without a mask.

    Args:
        values: [P].
        mask: [P] bool.

    Example:
        >>> import torch
        >>> from seewhy.explain.judging import average_precision
        >>> average_precision(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, True]))
        tensor(0.8333, dtype=torch.float64)
    """
    return _to_column([_compute_precision(*_sort(values, mask))], values)[0]


def _compute_precision(every: NDArray[Any], inside: NDArray[Any]) -> float:
    """Compute the average precision from sorted values; the recall rises by 1 / len(inside) at each value inside."""
    selected = len(every) - np.searchsorted(every, inside)
    hits = len(inside) - np.searchsorted(inside, inside)
    return float((hits / selected).mean()) if len(inside) else float("nan")


def _check_masks(maps: Maps, masks: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a bool mask for each input, empty for inputs without a mask."""
    if isinstance(masks, Tensor):
        if len(maps.maps) > 1:
            raise ConfigError(f"one mask for the inputs {', '.join(maps.maps)}; expected a mapping input → mask")
        masks = {next(iter(maps.maps)): masks}
    unknown = [name for name in masks if name not in maps.maps]
    if unknown:
        raise ConfigError(f"mask of an unknown input {unknown[0]!r}; {nearest(unknown[0], maps.maps)}")
    wrong = [
        f"{name!r}: mask {tuple(mask.shape)}, map {tuple(maps.maps[name].shape)}"
        for name, mask in masks.items()
        if mask.shape != maps.maps[name].shape
    ]
    if wrong:
        raise ConfigError(f"masks must have the shape of their maps: {'; '.join(wrong)}")
    return {
        name: (masks[name].to(one.device) > 0) if name in masks else torch.zeros_like(one, dtype=torch.bool)
        for name, one in maps.maps.items()
    }


def _sum_rows(values: Tensor, mask: Tensor) -> Tensor:
    """Sum the values of each row, all and those inside the mask, [2, B] float64."""
    return torch.stack([values.sum(dim=1, dtype=torch.float64), (values * mask).sum(dim=1, dtype=torch.float64)])


def _compute_energy(total: Tensor, within: Tensor) -> Tensor:
    return torch.where(total > 0, within / total.clamp_min(1e-300), 0.0)


def compute_slice_shares(maps: Maps, *, axis: int = 0) -> dict[str, Tensor]:
    """Compute the share of each slice in the evidence of all inputs; `Maps.shares` has the shares of the inputs.

    Args:
        maps: maps of volumes, or of planes for shares of rows or columns.
        axis: spatial axis to slice along, 0 first.

    Returns:
        Input → [B, slices] float64 that sum to the share of the input; 0 without any evidence.

    Raises:
        ConfigError: an axis that does not exist.
    """
    total = _sum_evidence(maps)
    shares = {}
    for name, one in maps.evidence().items():
        axes = one.ndim - 1
        if not 0 <= axis < axes:
            raise ConfigError(f"axis={axis}; expected 0 to {axes - 1}, the spatial axes of the map of {name!r}")
        rest = [other for other in range(1, one.ndim) if other != axis + 1]
        shares[name] = one.double().sum(dim=rest) / total[:, None]
    return shares


def compute_region_shares(maps: Maps, atlas: Tensor | Mapping[str, Tensor]) -> dict[str, dict[int, Tensor]]:
    """Compute the share of each region of an atlas in the evidence of all inputs.

    Compare a share with the region's share of the volume: uniform evidence has that share.

    Args:
        maps: maps of volumes or planes.
        atlas: [*s] or [B, *s] integer labels on the grid of the maps, of the only input; or input → labels.

    Returns:
        Input → region → [B] float64, for every label in the atlas, including 0 (background).

    Raises:
        ConfigError: labels of an unknown input, on another grid, or not integers.
    """
    if isinstance(atlas, Tensor):
        if len(maps.maps) > 1:
            raise ConfigError(f"one atlas for the inputs {', '.join(maps.maps)}; expected a mapping input → labels")
        atlas = {next(iter(maps.maps)): atlas}
    total, evidence = _sum_evidence(maps), maps.evidence()
    shares: dict[str, dict[int, Tensor]] = {}
    for name, labels in atlas.items():
        if name not in evidence:
            raise ConfigError(f"atlas of an unknown input {name!r}; {nearest(name, evidence)}")
        one = evidence[name]
        if labels.is_floating_point() or labels.shape not in (one.shape, one.shape[1:]):
            raise ConfigError(
                f"the atlas of {name!r} is {labels.dtype} {tuple(labels.shape)}; expected integers on the map's grid "
                f"{tuple(one.shape[1:])}"
            )
        names, index = labels.to(one.device).long().unique(return_inverse=True)
        sums = torch.zeros(len(one), len(names), dtype=torch.float64, device=one.device)
        sums.scatter_add_(1, index.expand(one.shape).reshape(len(one), -1), one.flatten(1).double())
        shares[name] = {int(label): sums[:, i] / total for i, label in enumerate(names)}
    return shares


def _sum_evidence(maps: Maps) -> Tensor:
    return join_maps(maps.evidence()).double().sum(dim=1).clamp_min(1e-300)
