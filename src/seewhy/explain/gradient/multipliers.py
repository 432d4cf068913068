"""Rules by which a difference of a function's value is dealt out to differences of its arguments.

Every rule works on a batch whose first half is the images and whose second half is their references. It returns
the function's true value, with a gradient that is the multiplier: Σ multiplier · (x − x0) = f(x) − f(x0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Value", "both", "largest", "normalised", "product", "rescaled", "softmax"]

NEAR = 1e-5  # below it a quotient of differences is mostly rounding, and the slope half-way is exact to 1e-10


def rescaled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function by the rescale rule: (f(x) − f(x0)) / (x − x0) (Shrikumar 2017, equation 10)."""
    with torch.no_grad():
        value = function(x.detach().clone())
        image, reference = x.detach().chunk(2)
        first, second = value.chunk(2)
        difference = image - reference
        far = difference.abs() > NEAR * image.abs().clamp_min(1)
        multiplier = (first - second) / difference.where(far, 1)
    if not far.all():
        middle = ((image + reference) / 2).requires_grad_()
        with torch.enable_grad():
            slope = torch.autograd.grad(function(middle.clone()).sum(), middle)[0]
        multiplier = multiplier.where(far, slope)
    return _with_value(_times(x, multiplier), value)


def product(operation: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """A product of two tensors: each is dealt its own difference times the other's mean.

    Δ(ab) = Δa (b + b0)/2 + (a + a0)/2 Δb holds exactly, for whatever is linear in each of the two: elementwise and
    matrix products alike (the Shapley value of two players).
    """
    if not (a.requires_grad and b.requires_grad):
        return operation(a, b)
    share = operation(a, _mean(b)) + operation(_mean(a), b)
    with torch.no_grad():
        value = operation(a.detach(), b.detach())
    return _with_value(share, value)


def largest(x: Tensor, value: Tensor, index: Tensor) -> Tensor:
    """A maximum over places: its difference goes to the place of the larger of the two maxima.

    There the argument's difference is at least that of the maxima, so no multiplier is beyond 1.

    Args:
        x: [2n, C, L].
        value: [2n, C, M], the maxima.
        index: [2n, C, M], where in L they are.
    """
    image, reference = x.detach().chunk(2)
    first, second = value.detach().chunk(2)
    ours, theirs = index.chunk(2)
    place = torch.where(first >= second, ours, theirs)
    difference = (image - reference).gather(2, place)
    far = difference.abs() > NEAR * first.abs().clamp_min(1)
    multiplier = ((first - second) / difference.where(far, 1)).where(far, 1)
    return _with_value(_times(x.gather(2, both(place)), multiplier), value.detach())


def normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """(x − mean) / √(variance + eps) over axes, taken apart into the rules above."""
    centred = x - x.mean(dim=axes, keepdim=True)
    variance = rescaled(torch.square, centred).mean(dim=axes, keepdim=True)
    return product(torch.mul, centred, rescaled(torch.rsqrt, variance + eps))


def softmax(x: Tensor, axis: int, *, log: bool = False) -> Tensor:
    """exp(x) / Σ exp(x) or its logarithm, taken apart into the rules above."""
    shift = torch.maximum(*x.detach().amax(dim=axis, keepdim=True).chunk(2))
    shifted = x - both(shift)  # the same number in both halves, or it would be a function of x
    raised = rescaled(torch.exp, shifted)
    total = raised.sum(dim=axis, keepdim=True)
    if log:
        return shifted - rescaled(torch.log, total)
    return product(torch.mul, raised, rescaled(torch.reciprocal, total))


def both(half: Tensor) -> Tensor:
    """[n, ...] for images and references alike."""
    return torch.cat([half, half])


def _mean(x: Tensor) -> Tensor:
    image, reference = x.detach().chunk(2)
    return both((image + reference) / 2)


def _times(x: Tensor, multiplier: Tensor) -> Tensor:
    """A tensor [2n, ...] times what both halves share [n, ...], which is kept once."""
    halves = x.reshape(2, len(multiplier), *x.shape[1:])
    return (halves * multiplier).reshape(x.shape)


def _with_value(share: Tensor, value: Tensor) -> Tensor:
    return Value.apply(share, lambda: value)


class Value(torch.autograd.Function):
    """Another tensor's gradient with this value."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, value: Callable[[], Tensor]) -> Tensor:
        """The value; it is called for, since a tensor that is passed through would become a view."""
        return value()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """All to the share."""
        return gradient, None
