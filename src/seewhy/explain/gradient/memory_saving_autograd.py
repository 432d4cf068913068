"""Memory-saving autograd: gradients by the input without storing inputs for gradients of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["DeferringMode", "MemorySavingMode", "Stem"]

CONVOLUTIONS = {functional.conv1d: 1, functional.conv2d: 2, functional.conv3d: 3}


class MemorySavingMode(TorchFunctionMode):
    """Frozen convolutions and batch normalisations do not store their input for the backward.

    Autograd stores the input of every convolution for the gradient of its weight, and the input of every batch
    normalisation for the gradient of its scale; frozen layers need neither. A row of an EfficientNet then takes about
    half the memory, with the same gradients bit for bit. It lets integrated gradients use the fastest batch size:
    1.01 times plain passes, 1.40 times without this mode (benchmarks/explain.py, docs/results.md). Second derivatives
    are not possible.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain.gradient.memory_saving_autograd import MemorySavingMode
        >>> net = nn.Conv2d(1, 2, 3).requires_grad_(False)
        >>> image = torch.rand(1, 1, 5, 5, requires_grad=True)
        >>> plain = torch.autograd.grad(net(image).square().sum(), image)[0]
        >>> with MemorySavingMode():
        ...     score = net(image).square().sum()
        >>> torch.equal(torch.autograd.grad(score, image)[0], plain)
        True
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in CONVOLUTIONS:
            call = _prepare_convolution(CONVOLUTIONS[func], *args, **kwargs)
            if call is not None:
                return _Convolution.apply(self.find_stem(call), *call)
        elif func is functional.batch_norm:
            normalization = _prepare_normalization(*args, **kwargs)
            if normalization is not None:
                return _Normalization.apply(*normalization)
        return func(*args, **kwargs)

    def find_stem(self, call: tuple[Any, ...]) -> Stem | None:
        """Return where the gradient of a convolution's output goes instead of to its input; None: to its input."""
        return None


class Stem:
    """A convolution that reads an image, and the gradient of its output.

    The gradient of the image is linear in it, so gradients of many rows can be summed here, and pulled back through the
    convolution once. That is often half of the backward: it has few channels, but the most positions.

    Args:
        name: input that is read.
        call: arguments of the convolution after the image: weight, bias, stride, padding, dilation, groups.

    Attributes:
        shape: of the output.
    """

    def __init__(self, name: str, call: tuple[Any, ...]) -> None:
        self.name, self.shape = name, torch.Size()
        self.weight, _, *self.options = call
        self.gradient: Tensor | None = None

    def pull_back(self, gradient: Tensor, shape: Sequence[int]) -> Tensor:
        """Compute the gradient [n, C, *spatial] of images of a shape from that of the output."""
        return _pull_back(gradient, self.weight, self.options, shape)


class DeferringMode(MemorySavingMode):
    """Convolutions that read one of the images give their gradients to `stems` instead of to the image.

    Gradients that reach an image in other ways are not affected.

    Args:
        images: input → image, a leaf that requires a gradient.
        most: largest number of values in the output of such a convolution.
    """

    def __init__(self, images: Mapping[str, Tensor], *, most: float) -> None:
        super().__init__()
        self.names = {id(image): name for name, image in images.items()}
        self.most = most
        self.stems: list[Stem] = []

    def find_stem(self, call: tuple[Any, ...]) -> Stem | None:
        """See `MemorySavingMode.find_stem`."""
        image, weight, _, stride, *_ = call
        # An estimate is enough: padding keeps the size, but for the stride.
        size = image.shape[0] * weight.shape[0] * math.prod(image.shape[2:]) / math.prod(stride)
        if id(image) not in self.names or size > self.most:
            return None
        stem = Stem(self.names[id(image)], call[1:])
        self.stems.append(stem)
        return stem


def _pull_back(gradient: Tensor, weight: Tensor, options: Sequence[Any], shape: Sequence[int]) -> Tensor:
    stride, padding, dilation, groups = options
    shape_only = gradient.new_empty(1).expand(shape)  # its values are never read
    arguments = (stride, padding, dilation, False, [0] * len(stride), groups, (True, False, False))
    result: Tensor = torch.ops.aten.convolution_backward(gradient, shape_only, weight, None, *arguments)[0]
    return result


def _prepare_convolution(
    axes: int,
    input: Tensor,  # noqa: A002 - torch's name of the argument
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Any, ...] | None:
    """Return the arguments with one number per axis; None if the plain operator should run."""
    if isinstance(padding, str) or input.ndim != axes + 2 or not _needs_input_gradient_only(input, weight, bias):
        return None

    def expand(value: int | Sequence[int]) -> list[int]:
        values = [value] if isinstance(value, int) else list(value)
        return values * axes if len(values) == 1 else values

    return input, weight, bias, expand(stride), expand(padding), expand(dilation), groups


def _prepare_normalization(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Any, ...] | None:
    """Return the arguments; None if batch statistics are used or parameters are trained."""
    if training or running_mean is None or running_var is None or not _needs_input_gradient_only(input, weight, bias):
        return None
    return input, running_mean, running_var, weight, bias, eps


def _needs_input_gradient_only(image: Tensor, *parameters: Tensor | None) -> bool:
    if not (torch.is_grad_enabled() and image.requires_grad):
        return False
    return not any(parameter is not None and parameter.requires_grad for parameter in parameters)


class _Convolution(torch.autograd.Function):
    """Convolution that stores the weight and the shape of the input for its backward."""

    @staticmethod
    def forward(
        ctx: Any,
        stem: Stem | None,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stem, ctx.shape, ctx.options = stem, image.shape, (stride, padding, dilation, groups)
        output = torch.convolution(image, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups)
        if stem is not None:
            stem.shape = output.shape
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        image_gradient = None
        if ctx.stem is None:
            image_gradient = _pull_back(gradient, weight, ctx.options, ctx.shape)
        else:
            ctx.stem.gradient = gradient
        return None, image_gradient, None, None, None, None, None, None


class _Normalization(torch.autograd.Function):
    """Batch normalisation with fixed statistics; its backward is one factor per channel."""

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
