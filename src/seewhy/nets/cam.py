"""Class activation maps (Zhou 2016) over several scales and mirror images of an image.

The map of one view, local logits whose pooling is the image's logit, is `ClassificationHead.activation_map`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.options import check_choice
from seewhy.types import Attention, ImageBatch, MapBatch

__all__ = ["NORMALIZATIONS", "MultiScaleCAM", "View", "min_max"]

NORMALIZATIONS = ("sigmoid", "minmax")


@dataclass
class View:
    """Output of a network for a batch at one scale."""

    local: MapBatch
    """[B, K, h, w] local logits of the classifier, raw and signed."""
    attention: list[Attention] = field(default_factory=list)
    """[B, heads, h·w, h·w] of each of the last blocks; empty if there is none or it was not requested."""

    def __getitem__(self, samples: slice | Tensor) -> View:
        """Select samples."""
        return View(self.local[samples], [layer[samples] for layer in self.attention])

    @staticmethod
    def join(views: Sequence[View]) -> View:
        """Join the views of parts of a batch."""
        if len(views) == 1:
            return views[0]
        layers = zip(*(view.attention for view in views), strict=True)
        return View(torch.cat([view.local for view in views]), [torch.cat(layer) for layer in layers])

    def detach(self) -> View:
        """Detach all tensors from the graph."""
        return View(self.local.detach(), [layer.detach() for layer in self.attention])


Encode = Callable[[Tensor, bool], View]
"""(image [B, C, H, W], whether attention is requested) → view."""


def min_max(maps: MapBatch, *, eps: float = 1e-5) -> MapBatch:
    """Scale each image and class to [0, 1): subtract the minimum, divide by the new maximum plus `eps`.

    This is the scale of the published method. It has no absolute zero: the map of an image without the class is scaled
    like any other, so it is meaningful only if the class is known to be present.

    Example:
        >>> import torch
        >>> from seewhy.nets.cam import min_max
        >>> min_max(torch.tensor([[[[1.0, 3.0]]]])).round(decimals=3)
        tensor([[[[0., 1.]]]])
    """
    shifted = maps - maps.amin(dim=(-2, -1), keepdim=True)
    return shifted / (shifted.amax(dim=(-2, -1), keepdim=True) + eps)


class MultiScaleCAM:
    """CAM of an image at several scales, each together with its mirror images.

    `normalize="sigmoid"` averages the local logits of all views and takes the sigmoid: one scale for all images, on
    which a healthy slice stays dark. `normalize="minmax"` is the published rule (Ru 2022): the maximum of view and
    mirrored view, clipped at 0, summed over scales, scaled per image by `min_max`.

    The result does not depend on the order of `scales`. No gradient is kept. A view and its mirror image share one
    forward, and the view of the unchanged image can be passed by the caller.

    Args:
        scales: factors on height and width, all > 0 and different.
        flip: whether to add the left-right mirror image of each scale.
        flip_vertical: whether to add the up-down mirror image and, with `flip`, the image mirrored both ways.
        normalize: `sigmoid` or `minmax`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.nets.cam import MultiScaleCAM, View
        >>> net = nn.Conv2d(1, 2, 3, stride=2, padding=1)
        >>> maps, view = MultiScaleCAM(scales=(1.0, 0.5))(lambda image, _: View(net(image)), torch.rand(1, 1, 16, 16))
        >>> maps.shape, view.local.shape
        (torch.Size([1, 2, 16, 16]), torch.Size([1, 2, 8, 8]))
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
            raise ConfigError(f"CAM scales={list(scales)}; expected different factors > 0, e.g. [1, 0.5, 1.5]")
        check_choice(normalize, NORMALIZATIONS, "model.cam.normalize")
        mirrors: dict[tuple[int, ...], bool] = {(-1,): flip, (-2,): flip_vertical, (-2, -1): flip and flip_vertical}
        self.mirrors = [axes for axes, used in mirrors.items() if used]
        self.normalize = normalize

    @torch.no_grad()
    def __call__(
        self, encode: Encode, image: ImageBatch, *, first: View | None = None, attention: bool = False
    ) -> tuple[MapBatch, View]:
        """Compute the maps of a batch, and the view of its largest scale.

        Args:
            encode: returns the view of a batch; called at most once per scale.
            image: [B, C, H, W].
            first: the view of `image` itself, if it was computed before.
            attention: whether to request the attention of the largest scale.

        Returns:
            Maps [B, K, H, W] float32 in [0, 1], and the view of the largest scale without mirroring.
        """
        totals: list[Tensor] = []
        largest: View
        for scale in self.scales:
            is_largest = scale == max(self.scales)
            view, mirrored = self._compute_views(
                encode, image, scale, first if scale == 1.0 else None, attention and is_largest
            )
            if is_largest:
                largest = view
            totals.append(self._merge([_resize(view.local, image), *mirrored]))
        return self._finish(torch.stack(totals).sum(dim=0)), largest

    def _compute_views(
        self, encode: Encode, image: Tensor, scale: float, known: View | None, attention: bool
    ) -> tuple[View, list[Tensor]]:
        """Return the view at one scale, and the local logits of its mirror images, mirrored back, at image size."""
        size = tuple(max(1, round(side * scale)) for side in image.shape[-2:])
        scaled = image if scale == 1.0 else F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        mirrored = [scaled.flip(axes) for axes in self.mirrors]
        count = len(image)
        if known is None:
            views = encode(torch.cat([scaled, *mirrored]), attention)
            view, local = views[:count], list(views.local[count:].split(count)) if mirrored else []
        else:
            view = known.detach()
            local = list(encode(torch.cat(mirrored), False).local.split(count)) if mirrored else []
        return view, [_resize(one, image).flip(axes) for one, axes in zip(local, self.mirrors, strict=True)]

    def _merge(self, views: list[Tensor]) -> Tensor:
        """Merge the views of one scale: their mean, or the positive part of their maximum."""
        stacked = torch.stack(views)
        return stacked.mean(dim=0) if self.normalize == "sigmoid" else F.relu(stacked.amax(dim=0))

    def _finish(self, total: Tensor) -> Tensor:
        """Scale the sum over scales to [0, 1]."""
        return torch.sigmoid(total / len(self.scales)) if self.normalize == "sigmoid" else min_max(total)


def _resize(local: Tensor, image: Tensor) -> Tensor:
    """Resize local logits to the size of the image, float32."""
    return F.interpolate(local.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)
