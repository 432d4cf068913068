"""Generator that changes intensities by monotone curves, which vary slowly over the slice: it cannot draw anything."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.nets.generators.base import Generator25D, centre_slice

__all__ = ["CurveGenerator25D", "apply_curves", "invert_curves"]

MARGIN = 0.3
"""Largest distance of a curve's ends from -1 and 1, so that shading may take brightness away from the brightest."""
FIRST_MARGIN = 0.1
"""Value of a margin's parameter at the start: 1 % of `MARGIN`; at 0 it would have no gradient."""


class CurveGenerator25D(Generator25D):
    """Translates each modality by increasing curves on a coarse grid, interpolated between its nodes.

    The network sees the whole stack, but predicts only the curves: of the slice as a whole, and a share `local` of
    them that differs from node to node (a bilateral grid, Chen 2007, as Gharbi 2017 lets a network predict it). A
    voxel's new value depends on its old value and on its place alone:

    - at every place, the brighter of two values stays the brighter one: curves increase with slopes of at least
      `least_slope`;
    - between two places, curves differ by at most `steepest_field` per pixel, so two voxels keep their order if their
      values differ by more than this distance allows. Edges and lesions neither appear, vanish nor change sign;
    - values stay in [-1, 1] without clipping, so that `invert_curves` restores the slice.

    It cannot change sharpness or noise.

    Args:
        slices: see `SAGenerator25D`.
        modalities: see `SAGenerator25D`.
        width: channels of the first of the layers that halve the size; later ones have at most 4 times as many.
        cell: pixels between two nodes, a power of 2; larger than the lesions to be kept.
        segments: straight pieces of a curve.
        steepness: largest ratio of the slopes of two pieces, above 1.
        local: share of the curves that differs between nodes, from 0 (one curve for the whole slice) to 1.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.curve import CurveGenerator25D
        >>> net = CurveGenerator25D(width=8)
        >>> stack = torch.rand(1, 12, 64, 64) * 2 - 1
        >>> float((net(stack) - stack[:, 4:8]).abs().max()) < 0.01  # starts near the identity
        True
    """

    def __init__(
        self,
        *,
        slices: int = 3,
        modalities: int = 4,
        width: int = 32,
        cell: int = 32,
        segments: int = 8,
        steepness: float = 6.0,
        local: float = 0.5,
    ) -> None:
        super().__init__(slices=slices, modalities=modalities, output="residual", value_range="symmetric")
        _check_options(cell=cell, segments=segments, steepness=steepness, local=local)
        self.cell, self.segments, self.local = cell, segments, local
        self.steepness = float(steepness)
        layers, channels = [], self.channels
        for number in range(cell.bit_length() - 1):
            following = width * min(2**number, 4)
            layers += [nn.Conv2d(channels, following, 3, 2, 1), nn.LeakyReLU(0.2)]
            channels = following
        self.encoder = nn.Sequential(*layers)
        outputs = modalities * (segments + 2)
        self.overall = nn.Sequential(nn.Linear(channels + modalities * (segments + 1), 4 * width), nn.LeakyReLU(0.2))
        self.to_curve = nn.Linear(4 * width, outputs)
        self.to_nodes = nn.Conv2d(channels + 4 * width, outputs, 1)
        for last in (self.to_curve, self.to_nodes):
            _start_near_identity(last, modalities)

    @property
    def least_slope(self) -> float:
        """Lower bound of the slope of all curves."""
        return (1 - MARGIN) / self.steepness

    @property
    def steepest_field(self) -> float:
        """Upper bound of the change of a translated value per pixel of distance along an axis, for the same input.

        It holds for sides that are multiples of `cell`; others have slightly narrower cells.
        """
        return 2 * self.local / self.cell

    def forward(self, stack: Tensor) -> Tensor:
        """Translate the centre slices [B, modalities, H, W] of stacks [B, slices * modalities, H, W]."""
        return apply_curves(centre_slice(stack, self.modalities), self.curves(stack))

    def curves(self, stack: Tensor) -> Tensor:
        """Predict the curves of a stack.

        Returns:
            [B, modalities, segments + 1, H, W], increasing along the third axis: new values, at each pixel, of old
            values that are evenly spaced from -1 to 1.
        """
        self.check(stack)
        features = self.encoder(stack + 1)  # background is 0, as the padding is
        shown = torch.cat([features.mean((2, 3)), self._describe(centre_slice(stack, self.modalities))], dim=1)
        overall = self.overall(shown)
        nodes = torch.cat([features, overall[:, :, None, None].expand(-1, -1, *features.shape[2:])], dim=1)
        whole = self._to_levels(self.to_curve(overall)[:, :, None, None])
        mixed = (1 - self.local) * whole + self.local * self._to_levels(self.to_nodes(nodes))
        # Weighted means of increasing curves increase, with the bounds of their slopes.
        fine = F.interpolate(mixed.flatten(1, 2), size=stack.shape[2:], mode="bilinear", align_corners=False)
        return fine.unflatten(1, (self.modalities, self.segments + 1))

    def _to_levels(self, values: Tensor) -> Tensor:
        """Convert outputs [B, M * (K + 2), h, w] to values of curves at their knots [B, M, K + 1, h, w]."""
        values = values.unflatten(1, (self.modalities, self.segments + 2))
        values = values.to(torch.promote_types(values.dtype, torch.float32))  # sums of half precision are too coarse
        squares = values[:, :, :2].square()
        low, high = (MARGIN * squares / (1 + squares)).split(1, dim=2)
        rises = torch.exp(0.5 * math.log(self.steepness) * values[:, :, 2:].tanh())
        rises = (2 - low - high) * rises / rises.sum(dim=2, keepdim=True)
        return torch.cat([low - 1, low - 1 + rises.cumsum(dim=2)], dim=2)

    def _describe(self, image: Tensor) -> Tensor:
        """Shares of the tissue [B, M * (K + 1)] near each knot, by triangular bins; of every fourth pixel."""
        image = image[..., ::2, ::2].detach()
        body = (image > -1).any(dim=1, keepdim=True)
        knots = torch.linspace(-1, 1, self.segments + 1, device=image.device).view(-1, 1, 1)
        near = (1 - (image[:, :, None] - knots).abs() * self.segments / 2).relu() * body[:, None]
        return near.sum((3, 4)).flatten(1) / body.sum((1, 2, 3)).clamp(min=1)[:, None]


def apply_curves(image: Tensor, levels: Tensor) -> Tensor:
    """Map the values of a slice by the curves of its pixels.

    Args:
        image: [B, M, H, W] in [-1, 1].
        levels: [B, M, K + 1, H, W], see `CurveGenerator25D.curves`.

    Returns:
        [B, M, H, W].
    """
    count = levels.shape[2] - 1
    place = (image[:, :, None] + 1) * (count / 2)
    piece = place.detach().floor().clamp(0, count - 1)
    number = piece.long()
    start, end = levels.gather(2, number), levels.gather(2, number + 1)
    return (start + (place - piece) * (end - start))[:, :, 0]


def invert_curves(image: Tensor, levels: Tensor) -> Tensor:
    """Undo `apply_curves`, up to rounding.

    Args:
        image: [B, M, H, W], mapped values; beyond the ends of a curve they count as its ends.
        levels: [B, M, K + 1, H, W], the curves that were applied.

    Example:
        >>> import torch
        >>> levels = torch.tensor([-0.9, 0.1, 0.2]).view(1, 1, 3, 1, 1)
        >>> image = torch.tensor([[[[-0.5]]]])
        >>> moved = apply_curves(image, levels)
        >>> round(float(moved), 4), round(float(invert_curves(moved, levels)), 4)
        (-0.4, -0.5)
    """
    rises = levels.diff(dim=2)
    passed = ((image[:, :, None] - levels[:, :, :-1]) / rises).clamp(0, 1)
    return passed.sum(dim=2) * (2 / rises.shape[2]) - 1


def _check_options(*, cell: int, segments: int, steepness: float, local: float) -> None:
    problems = []
    if cell < 2 or cell & (cell - 1):
        problems.append(f"model.generator.cell={cell} must be a power of 2, at least 2 pixels")
    if segments < 1:
        problems.append(f"model.generator.segments={segments} must be 1 or more")
    if steepness <= 1:
        problems.append(f"model.generator.steepness={steepness} must be above 1; 1 would only allow straight lines")
    if not 0 <= local <= 1:
        problems.append(f"model.generator.local={local} must be a share between 0 and 1")
    if problems:
        raise ConfigError("; ".join(problems))


def _start_near_identity(layer: nn.Linear | nn.Conv2d, modalities: int) -> None:
    """Make all pieces equally steep, and the margins small."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.view(modalities, -1)[:, :2] = FIRST_MARGIN
        layer.bias.view(modalities, -1)[:, 2:] = 0
