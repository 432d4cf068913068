"""Stacks of neighbouring slices as channels (2.5D), and the base class of generators that translate their centre slice.

A stack of S neighbouring slices of M modalities has S * M channels, slice by slice: channel s * M + m is modality m
of slice s, slices ascending, modalities in the order of `seewhy.batch.MODALITIES`. With S = 3 and M = 4, channels 4
to 7 are the centre slice.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.options import check_choice

__all__ = [
    "Generator25D",
    "Output",
    "ValueRange",
    "centre_slice",
    "check_range",
    "cut_windows",
    "from_net",
    "repeat_slice",
    "stack_slices",
    "stack_volume",
    "to_net",
]


def stack_volume(volume: Tensor, *, slices: int = 3) -> Tensor:
    """Stack each slice with its neighbours as channels.

    Args:
        volume: [M, D, H, W].
        slices: S, odd; beyond the ends, the first and the last slice are repeated.

    Returns:
        [D, S * M, H, W].

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.base import stack_volume
        >>> stack_volume(torch.arange(3.0).reshape(1, 3, 1, 1)).flatten(1)
        tensor([[0., 0., 1.],
                [0., 1., 2.],
                [1., 2., 2.]])
    """
    return cut_windows(volume.transpose(0, 1).flatten(0, 1)[None], modalities=len(volume), slices=slices, edges=True)


def centre_slice(stack: Tensor, modalities: int) -> Tensor:
    """Return the slice in the middle.

    Args:
        stack: [B, S * M, H, W], S odd.
        modalities: M.

    Returns:
        [B, M, H, W], a view.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.base import centre_slice
        >>> centre_slice(torch.arange(6.0).reshape(1, 6, 1, 1), modalities=2).flatten()
        tensor([2., 3.])
    """
    first = _count_slices(stack, modalities) // 2 * modalities
    return stack[:, first : first + modalities]


def cut_windows(stack: Tensor, *, modalities: int, slices: int = 3, edges: bool = False) -> Tensor:
    """Cut a stack into all stacks of fewer slices, so that a generator translates several neighbouring slices.

    `stack_slices` of the translated slices is a stack for the generator of the other direction: 5 slices give 3 windows
    of 3 slices, these give 3 translated slices, and these the centre slice of a closed cycle.

    Args:
        stack: [B, N * M, H, W].
        modalities: M.
        slices: S ≤ N, odd.
        edges: whether to add the windows centred at the outer slices, where these are repeated.

    Returns:
        [B * K, S * M, H, W], windows of a sample one after another; K is N with `edges`, else N - S + 1.

    Example:
        >>> import torch
        >>> from seewhy.nets.generators.base import cut_windows
        >>> cut_windows(torch.arange(5.0).reshape(1, 5, 1, 1), modalities=1).flatten(1)
        tensor([[0., 1., 2.],
                [1., 2., 3.],
                [2., 3., 4.]])
    """
    count, half = _count_slices(stack, modalities, odd=False), slices // 2
    if slices % 2 == 0 or (not edges and count < slices):
        raise ConfigError(f"windows of {slices} slices in a stack of {count}; expected an odd number, at most {count}")
    parts = stack.unflatten(1, (count, modalities))
    if edges and half:
        parts = torch.cat([parts[:, :1]] * half + [parts] + [parts[:, -1:]] * half, dim=1)
    # Cut by strides: indices of slices would be copied to a GPU in every step.
    return parts.unfold(1, slices, 1).movedim(-1, 2).flatten(0, 1).flatten(1, 2).contiguous()


def stack_slices(images: Tensor, count: int) -> Tensor:
    """Stack neighbouring slices, which lie one after another in the batch, as channels.

    Args:
        images: [B * K, M, H, W], the slices of a sample one after another.
        count: K.

    Returns:
        [B, K * M, H, W].
    """
    return images.unflatten(0, (-1, count)).flatten(1, 2)


def repeat_slice(image: Tensor, slices: int = 3, *, legacy_layout: bool = False) -> Tensor:
    """Make a stack from one slice by repeating it.

    Args:
        image: [B, M, H, W].
        slices: S.
        legacy_layout: whether to order by modality, channel m * S + s, as the published training did for translated
            slices in its cycles, so that imported weights expect it. It is not the order of real stacks.

    Returns:
        [B, S * M, H, W].
    """
    return image.repeat_interleave(slices, dim=1) if legacy_layout else image.repeat(1, slices, 1, 1)


def _count_slices(stack: Tensor, modalities: int, *, odd: bool = True) -> int:
    count, rest = divmod(int(stack.shape[1]), modalities)
    if rest or not count or (odd and count % 2 == 0):
        expected = "an odd multiple" if odd else "a multiple"
        raise ConfigError(f"a stack of {stack.shape[1]} channels; expected {expected} of the {modalities} modalities")
    return count


ValueRange: TypeAlias = Literal["symmetric", "unit"]
"""symmetric: [-1, 1], as in seewhy's batches; unit: [0, 1], as in the training of the published networks."""
RANGES = ("symmetric", "unit")


def check_range(name: str, where: str) -> ValueRange:
    """Return the name of a value range if it is valid.

    Args:
        name: name of the range.
        where: dotted name of the option, for the error.

    Raises:
        ConfigError: an unknown range.
    """
    if name not in RANGES:
        raise ConfigError(f"{where}={name!r} is unknown; {nearest(name, RANGES)}")
    return "unit" if name == "unit" else "symmetric"


def to_net(values: Tensor, value_range: ValueRange) -> Tensor:
    """Convert values in [-1, 1] to the range of a network; -1 becomes 0 in `unit`."""
    return (values + 1) / 2 if value_range == "unit" else values


def from_net(values: Tensor, value_range: ValueRange) -> Tensor:
    """Convert values in the range of a network to [-1, 1], the inverse of `to_net`."""
    return values * 2 - 1 if value_range == "unit" else values


Output: TypeAlias = Literal["tanh", "sigmoid", "residual"]
"""Output activation: tanh, in (-1, 1), as published; sigmoid, in (0, 1); or residual, the centre slice of the input
plus a tanh, which starts as the identity."""
OUTPUTS = ("tanh", "sigmoid", "residual")


class Generator25D(nn.Module):
    """Checks of the input, conversion of value ranges, and the output activation.

    Stacks and slices are in [-1, 1] outside the network; `value_range` is the range that the layers work on.

    Attributes:
        channels: channels of the input stack: slices times modalities, see `seewhy.nets.generators.base`.
        modalities: channels of the output.
    """

    def __init__(self, *, slices: int, modalities: int, output: Output, value_range: ValueRange) -> None:
        super().__init__()
        check_choice(output, OUTPUTS, "model.generator.output")
        if slices < 1 or slices % 2 == 0:
            raise ConfigError(f"model.generator: slices={slices}; expected an odd number, so that one is in the centre")
        self.channels, self.modalities = slices * modalities, modalities
        self.output_kind = output
        self.value_range = check_range(value_range, "model.generator.value_range")

    def enter(self, stack: Tensor) -> Tensor:
        """Check a stack and convert it to the range of the layers.

        Raises:
            ConfigError: see `check`.
        """
        self.check(stack)
        return to_net(stack, self.value_range)

    def check(self, stack: Tensor) -> None:
        """Check the shape of a stack.

        Raises:
            ConfigError: a shape other than [B, channels, H, W], or H or W not divisible by 4.
        """
        if stack.ndim != 4 or stack.shape[1] != self.channels or stack.shape[2] % 4 or stack.shape[3] % 4:
            raise ConfigError(
                f"{type(self).__name__} got a stack {tuple(stack.shape)}; expected [B, {self.channels}, H, W] with H "
                "and W multiples of 4: crop or pad with data.image_size"
            )

    def finish(self, values: Tensor, stack: Tensor) -> Tensor:
        """Compute the slice [B, modalities, H, W] from the values of the last convolution and the input stack."""
        if self.output_kind == "residual":
            return centre_slice(stack, self.modalities) + values.tanh()
        output = values.sigmoid() if self.output_kind == "sigmoid" else values.tanh()
        return from_net(output, self.value_range)

    def start(self, last: nn.Conv2d) -> None:
        """Initialise the last convolution so that a residual generator starts as the identity."""
        if self.output_kind == "residual":
            nn.init.zeros_(last.weight)
            if last.bias is not None:
                nn.init.zeros_(last.bias)
