"""Gradients by the input that keep nothing which only the gradients of weights would need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["MemorySavingMode"]

CONVOLUTIONS = {functional.conv1d: 1, functional.conv2d: 2, functional.conv3d: 3}


class MemorySavingMode(TorchFunctionMode):
    """Convolutions and batch normalisations with fixed numbers forget their input.

    Autograd keeps the input of every convolution for the gradient of its weight, and that of every batch
    normalisation for the gradient of its scale; of frozen ones neither is ever asked for. Without them a row of an
    EfficientNet takes about half the memory. Values are those of the same operators; second derivatives are not
    possible.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in CONVOLUTIONS:
            call = _convolution_call(CONVOLUTIONS[func], *args, **kwargs)
            if call is not None:
                return _Convolution.apply(*call)
        elif func is functional.batch_norm:
            normalization = _normalization_call(*args, **kwargs)
            if normalization is not None:
                return _Normalization.apply(*normalization)
        return func(*args, **kwargs)


def _convolution_call(
    axes: int,
    input: Tensor,  # noqa: A002 - torch's own name, by which it may be given
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Any, ...] | None:
    """Arguments with one number per axis; None where the plain operator should run."""
    if isinstance(padding, str) or input.ndim != axes + 2 or not _frozen(input, weight, bias):
        return None

    def each(value: int | Sequence[int]) -> list[int]:
        values = [value] if isinstance(value, int) else list(value)
        return values * axes if len(values) == 1 else values

    return input, weight, bias, each(stride), each(padding), each(dilation), groups


def _normalization_call(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Any, ...] | None:
    """Arguments; None where statistics are those of the batch, or numbers learn."""
    if training or running_mean is None or running_var is None or not _frozen(input, weight, bias):
        return None
    return input, running_mean, running_var, weight, bias, eps


def _frozen(image: Tensor, *learned: Tensor | None) -> bool:
    """Whether a gradient is wanted by the image alone."""
    wanted = torch.is_grad_enabled() and image.requires_grad
    return wanted and not any(one is not None and one.requires_grad for one in learned)


class _Convolution(torch.autograd.Function):
    """A convolution whose backward knows the weight and the input's shape."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.options = image.shape, (stride, padding, dilation, False, [0] * len(stride), groups)
        return torch.convolution(image, weight, bias, *ctx.options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        shape_only = gradient.new_empty(1).expand(ctx.shape)  # its values are never read
        found = torch.ops.aten.convolution_backward(
            gradient, shape_only, weight, None, *ctx.options, (True, False, False)
        )
        return found[0], None, None, None, None, None, None


class _Normalization(torch.autograd.Function):
    """A batch normalisation by fixed statistics, whose backward is a factor per channel."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(scale if weight is None else scale * weight)
        return functional.batch_norm(image, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = ctx.saved_tensors
        shape = [1, -1, *[1] * (gradient.ndim - 2)]
        return gradient * scale.to(gradient.dtype).reshape(shape), None, None, None, None, None
