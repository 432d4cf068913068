"""Where the evidence lies, against an annotated region: every score beside its level by chance.

How much of all evidence each slice and each region holds, on the raw scale that all inputs share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
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
FRACTIONS = tuple(round(0.05 * k, 2) for k in range(1, 20))


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """How a map becomes a region.

    Attributes:
        kind: `area` keeps a share of the pixels, the highest ones; `scale` keeps evidence of at least a share of
            the run's scale.
        value: the share, in (0, 1).
        scale: what 1 is for `scale`, in units of evidence.
        iou: mean IoU where it was tuned.
    """

    kind: Literal["area", "scale"]
    value: float
    scale: float = 1.0
    iou: float = float("nan")

    def region(self, evidence: Tensor) -> Tensor:
        """[P] bool of evidence [P]; pixels without evidence are never part of it."""
        if self.kind == "scale":
            return (evidence >= self.value * self.scale) & (evidence > 0)
        count = max(round(self.value * evidence.numel()), 1)
        return (evidence >= evidence.topk(count).values[-1]) & (evidence > 0)


@dataclass(frozen=True, kw_only=True)
class Localization:
    """Scores of each sample over all its inputs together, [B] float64; NaN where the mask is empty.

    Attributes:
        mask_share: share of the mask in all pixels; the level that chance reaches in all other scores but `iou`.
        pointing: 1 where the highest pixel is in the mask (Zhang 2018); ties count by their share inside.
        energy: share of the evidence inside the mask; 0 where there is no evidence.
        auprc: area under the precision-recall curve, exact, ties at once.
        iou: of the region above the threshold; None without one.
        by_input: input → share of that input's evidence inside its mask.
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
    """Compare evidence with masks; evidence in an input without a mask lies outside.

    Args:
        maps: of several inputs or one.
        masks: [B, *s], above 0 inside, of the only input; or input → mask.
        threshold: for the IoU, from `tune_threshold` on other samples than these.

    Raises:
        ConfigError: a mask of an unknown input, or of another shape than its map.
    """
    evidence, inside = maps.evidence(), _masks(maps, masks)
    values, mask = join_maps(evidence).double(), join_maps(inside)
    highest = values == values.amax(dim=1, keepdim=True)
    scores = {
        "mask_share": mask.double().mean(dim=1),
        "pointing": (highest & mask).sum(dim=1) / highest.sum(dim=1).double(),
        "energy": _inside(values, mask),
        "auprc": torch.stack([average_precision(*row) for row in zip(values, mask, strict=True)]),
    }
    iou = None
    if threshold is not None:
        iou = torch.stack([_iou(threshold.region(v), m) for v, m in zip(values, mask, strict=True)])
    empty = ~mask.any(dim=1)
    scores = {name: one.masked_fill(empty, float("nan")) for name, one in scores.items()}
    by_input = {
        name: _inside(one.flatten(1).double(), part := inside[name].flatten(1)).masked_fill(~part.any(1), float("nan"))
        for name, one in evidence.items()
    }
    return Localization(iou=iou, by_input=by_input, **scores)


def tune_threshold(pairs: Iterable[tuple[Tensor, Tensor]]) -> Threshold:
    """The threshold of the highest mean IoU on validation samples, among shares of area and of the run's scale.

    The scale is the samples' mean highest evidence.

    Args:
        pairs: evidence [P] and mask [P] of each sample, e.g. rows of `joint` and `joint_mask`.

    Raises:
        DataError: no sample with a mask.
    """
    known = [(values.flatten(), mask.flatten() > 0) for values, mask in pairs if bool((mask > 0).any())]
    if not known:
        raise DataError("no validation sample has a mask; expected some to tune the threshold on")
    scale = float(torch.stack([values.max() for values, _ in known]).double().mean())
    options = [Threshold(kind="area", value=value) for value in SHARES]
    options += [Threshold(kind="scale", value=value, scale=scale) for value in FRACTIONS]
    means = [float(torch.stack([_iou(one.region(v), m) for v, m in known]).mean()) for one in options]
    best = max(range(len(options)), key=means.__getitem__)
    return Threshold(kind=options[best].kind, value=options[best].value, scale=options[best].scale, iou=means[best])


def join_masks(maps: Maps, masks: Tensor | Mapping[str, Tensor]) -> Tensor:
    """[B, P] bool, the masks of all inputs side by side as `joint` puts the maps."""
    return join_maps(_masks(maps, masks))


def average_precision(values: Tensor, mask: Tensor) -> Tensor:
    """Σ precision × step of recall over all distinct values, a scalar; NaN without a mask.

    Args:
        values: [P].
        mask: [P] bool.
    """
    ordered, order = values.sort(descending=True)
    ends = torch.ones_like(mask)
    ends[:-1] = ordered[1:] != ordered[:-1]
    found = mask[order].double().cumsum(0)[ends]
    kept = (torch.arange(len(values), device=values.device) + 1)[ends]
    return (found.diff(prepend=found.new_zeros(1)) * found / kept).sum() / mask.sum()


def _masks(maps: Maps, masks: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if isinstance(masks, Tensor):
        if len(maps.maps) > 1:
            raise ConfigError(f"one mask for the inputs {', '.join(maps.maps)}; give a mapping input → mask")
        masks = {next(iter(maps.maps)): masks}
    unknown = [name for name in masks if name not in maps.maps]
    if unknown:
        raise ConfigError(f"a mask of the input {unknown[0]!r}; {nearest(unknown[0], maps.maps)}")
    wrong = [
        f"{name!r}: mask {tuple(mask.shape)}, map {tuple(maps.maps[name].shape)}"
        for name, mask in masks.items()
        if mask.shape != maps.maps[name].shape
    ]
    if wrong:
        raise ConfigError(f"masks do not fit their maps; expected the map's shape: {'; '.join(wrong)}")
    return {
        name: (masks[name].to(one.device) > 0) if name in masks else torch.zeros_like(one, dtype=torch.bool)
        for name, one in maps.maps.items()
    }


def _inside(values: Tensor, mask: Tensor) -> Tensor:
    total = values.sum(dim=1)
    return torch.where(total > 0, (values * mask).sum(dim=1) / total.clamp_min(1e-300), 0.0)


def _iou(region: Tensor, mask: Tensor) -> Tensor:
    """A scalar; NaN without a mask."""
    return (
        (region & mask).sum().double() / (region | mask).sum()
        if bool(mask.any())
        else mask.new_tensor(float("nan"), dtype=torch.float64)
    )


def compute_slice_shares(maps: Maps, *, axis: int = 0) -> dict[str, Tensor]:
    """Share of each slice in the evidence of all inputs; the shares by input are `Maps.shares`.

    Args:
        maps: of volumes, or of planes whose rows or columns are asked for.
        axis: spatial axis to slice along, 0 first.

    Returns:
        Input → [B, slices] float64 that sum to the input's share; 0 where there is no evidence at all.

    Raises:
        ConfigError: no such axis.
    """
    total = _total(maps)
    shares = {}
    for name, one in maps.evidence().items():
        axes = one.ndim - 1
        if not 0 <= axis < axes:
            raise ConfigError(f"axis={axis}: the map of {name!r} has the spatial axes 0 to {axes - 1}")
        rest = [other for other in range(1, one.ndim) if other != axis + 1]
        shares[name] = one.double().sum(dim=rest) / total[:, None]
    return shares


def compute_region_shares(maps: Maps, atlas: Tensor | Mapping[str, Tensor]) -> dict[str, dict[int, Tensor]]:
    """Share of each region of an atlas in the evidence of all inputs.

    Hold them against `(atlas == region)`'s share of the volume: evidence spread evenly has that.

    Args:
        maps: of volumes or planes.
        atlas: [*s] or [B, *s] integer labels on the maps' grid, of the only input; or input → labels.

    Returns:
        Input → region → [B] float64, for every label that occurs, 0 (background) included.

    Raises:
        ConfigError: labels of an unknown input, on another grid, or not integers.
    """
    if isinstance(atlas, Tensor):
        if len(maps.maps) > 1:
            raise ConfigError(f"one atlas for the inputs {', '.join(maps.maps)}; give a mapping input → labels")
        atlas = {next(iter(maps.maps)): atlas}
    total, evidence = _total(maps), maps.evidence()
    shares: dict[str, dict[int, Tensor]] = {}
    for name, labels in atlas.items():
        if name not in evidence:
            raise ConfigError(f"an atlas of the input {name!r}; {nearest(name, evidence)}")
        one = evidence[name]
        if labels.is_floating_point() or labels.shape not in (one.shape, one.shape[1:]):
            raise ConfigError(
                f"the atlas of {name!r} is {labels.dtype} {tuple(labels.shape)}; expected integers on the map's grid "
                f"{tuple(one.shape[1:])}"
            )
        names, place = labels.to(one.device).long().unique(return_inverse=True)
        sums = torch.zeros(len(one), len(names), dtype=torch.float64, device=one.device)
        sums.scatter_add_(1, place.expand(one.shape).reshape(len(one), -1), one.flatten(1).double())
        shares[name] = {int(label): sums[:, i] / total for i, label in enumerate(names)}
    return shares


def _total(maps: Maps) -> Tensor:
    return join_maps(maps.evidence()).double().sum(dim=1).clamp_min(1e-300)
