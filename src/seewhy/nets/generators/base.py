"""Base class of 2.5D generators, which translate a slice of several modalities given its neighbours."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.nets.generators.slice_stack import centre_slice
from seewhy.options import check_choice

__all__ = ["Generator25D", "Output", "ValueRange", "check_range", "from_net", "to_net"]

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
        channels: channels of the input stack: slices times modalities, see `seewhy.nets.generators.slice_stack`.
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
