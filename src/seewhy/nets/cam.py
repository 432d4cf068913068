"""Class activation maps (Zhou 2016) over several scales and mirror images of an image.

The map of one view, local logits whose pooling is the image's logit, is `ClassificationHead.activation_map`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError, nearest
from seewhy.types import Attention, ImageBatch, MapBatch

__all__ = ["NORMALIZATIONS", "MultiScaleCAM", "View", "min_max"]

NORMALIZATIONS = ("sigmoid", "minmax")


@dataclass
class View:
    """What a network makes of a batch seen at one scale."""

    local: MapBatch
    """[B, K, h, w] local logits of the classifier, raw and signed."""
    attention: list[Attention] = field(default_factory=list)
    """[B, heads, h·w, h·w] of each of the last blocks; empty where there is none or it was not asked for."""

    def __getitem__(self, samples: slice | Tensor) -> View:
        """The same of some samples only."""
        return View(self.local[samples], [layer[samples] for layer in self.attention])

    @staticmethod
    def join(views: Sequence[View]) -> View:
        """Views of parts of a batch as one."""
        if len(views) == 1:
            return views[0]
        layers = zip(*(view.attention for view in views), strict=True)
        return View(torch.cat([view.local for view in views]), [torch.cat(layer) for layer in layers])

    def detach(self) -> View:
        """The same, cut off from the gradient."""
        return View(self.local.detach(), [layer.detach() for layer in self.attention])


Encode = Callable[[Tensor, bool], View]
"""(image [B, C, H, W], attention wanted) → view."""


def min_max(maps: MapBatch, *, eps: float = 1e-5) -> MapBatch:
    """Stretch each image and class to [0, 1): subtract the minimum, divide by what is then the maximum plus `eps`.

    This is the scale of the published method. It knows no absolute zero: a map of an image without the class is
    stretched as far as any other, so it means something only where the class is known to be present.
    """
    shifted = maps - maps.amin(dim=(-2, -1), keepdim=True)
    return shifted / (shifted.amax(dim=(-2, -1), keepdim=True) + eps)


class MultiScaleCAM:
    """CAM of an image seen at several sizes, each together with its mirror images.

    `normalize="sigmoid"` averages the local logits of all views and takes the sigmoid, one scale for all images,
    on which a healthy slice stays dark. `normalize="minmax"` is the published rule (Ru 2022): the larger of view
    and mirrored view, negative parts cut off, summed over scales, stretched per image by `min_max`.

    The result does not depend on the order of `scales`. No gradient is kept. A view and its mirror image share a
    forward, and the local logits of the unchanged image are taken from the caller where it has them already.

    Args:
        scales: factors on height and width, all > 0, none twice.
        flip: also see each scale's left-right mirror image.
        flip_vertical: also see its up-down mirror image and, with `flip`, the image turned by both.
        normalize: `sigmoid` or `minmax`.
    """

    def __init__(
        self,
        *,
        scales: Sequence[float] = (1.0, 0.5, 1.5),
        flip: bool = True,
        flip_vertical: bool = False,
        normalize: str = "sigmoid",
    ) -> None:
        self.scales = tuple(float(scale) for scale in scales)
        if not self.scales or min(self.scales) <= 0 or len(set(self.scales)) < len(self.scales):
            raise ConfigError(f"CAM scales={list(scales)}: give one or more different factors > 0, e.g. [1, 0.5, 1.5]")
        if normalize not in NORMALIZATIONS:
            raise ConfigError(f"CAM normalize={normalize!r} is unknown; {nearest(normalize, NORMALIZATIONS)}")
        self.mirrors = [axes for axes, seen in _mirrors(flip, flip_vertical) if seen]
        self.normalize = normalize

    @torch.no_grad()
    def __call__(
        self, encode: Encode, image: ImageBatch, *, first: View | None = None, attention: bool = False
    ) -> tuple[MapBatch, View]:
        """Maps of a batch, and the largest view behind them.

        Args:
            encode: gives the view of a batch; called at most once per scale.
            image: [B, C, H, W].
            first: the view of `image` itself, if known; it is not computed again.
            attention: ask for the attention of the largest scale.

        Returns:
            maps [B, K, H, W] float32 in [0, 1], and the unmirrored view of the largest scale.
        """
        totals: list[Tensor] = []
        largest = first
        for scale in self.scales:
            is_largest = scale == max(self.scales)
            view, mirrored = self._views(
                encode, image, scale, first if scale == 1.0 else None, attention and is_largest
            )
            largest = view if is_largest else largest
            totals.append(self._merge([_resize(view.local, image), *mirrored]))
        assert largest is not None
        return self._finish(torch.stack(totals).sum(dim=0)), largest

    def _views(
        self, encode: Encode, image: Tensor, scale: float, known: View | None, attention: bool
    ) -> tuple[View, list[Tensor]]:
        """The view at one scale, and the local logits of its mirror images at image size, turned back."""
        size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
        scaled = image if scale == 1.0 else F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        images = [] if known is not None else [scaled]
        images += [scaled.flip(axes) for axes in self.mirrors]
        seen = encode(torch.cat(images), attention and known is None) if images else None
        if known is not None:
            view, local = known.detach(), [] if seen is None else list(seen.local.split(len(image)))
        else:
            assert seen is not None
            view, local = seen[: len(image)], list(seen.local[len(image) :].split(len(image))) if self.mirrors else []
        turned = [_resize(one, image).flip(axes) for one, axes in zip(local, self.mirrors, strict=True)]
        return view, turned

    def _merge(self, views: list[Tensor]) -> Tensor:
        """One map per scale: the mean of all views, or the positive part of their maximum."""
        stacked = torch.stack(views)
        return stacked.mean(dim=0) if self.normalize == "sigmoid" else F.relu(stacked.amax(dim=0))

    def _finish(self, total: Tensor) -> Tensor:
        """From the sum over scales to [0, 1]."""
        return torch.sigmoid(total / len(self.scales)) if self.normalize == "sigmoid" else min_max(total)


def _mirrors(flip: bool, flip_vertical: bool) -> list[tuple[tuple[int, ...], bool]]:
    """Axes that each mirror image turns, and whether it is seen."""
    return [((-1,), flip), ((-2,), flip_vertical), ((-2, -1), flip and flip_vertical)]


def _resize(local: Tensor, image: Tensor) -> Tensor:
    """Local logits at the image's size, float32."""
    return F.interpolate(local.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)
