"""What generators share that make one slice of several modalities from it and its neighbours.

The range of values that a network was trained on, where it is not that of our batches.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn

from seewhy.errors import ConfigError, nearest
from seewhy.nets.generators.slice_stack import centre_slice

__all__ = ["Generator25D", "Output", "ValueRange", "check_range", "from_net", "to_net"]

ValueRange: TypeAlias = Literal["symmetric", "unit"]
"""symmetric: [-1, 1], as in our batches; unit: [0, 1], as the published networks were trained."""
RANGES = ("symmetric", "unit")


def check_range(name: str, where: str) -> ValueRange:
    """The name of a range, if there is such a one.

    Args:
        name: of the range.
        where: dotted name of the option, for the message.

    Raises:
        ConfigError: no such range.
    """
    if name not in RANGES:
        raise ConfigError(f"{where}={name!r} is unknown; {nearest(name, RANGES)}")
    return "unit" if name == "unit" else "symmetric"


def to_net(values: Tensor, value_range: ValueRange) -> Tensor:
    """Values in [-1, 1] as a network takes them; -1 is 0 in `unit`."""
    return (values + 1) / 2 if value_range == "unit" else values


def from_net(values: Tensor, value_range: ValueRange) -> Tensor:
    """The inverse of `to_net`."""
    return values * 2 - 1 if value_range == "unit" else values


Output: TypeAlias = Literal["tanh", "sigmoid", "residual"]
"""What the last convolution's values become: tanh, in (-1, 1), as published; sigmoid, in (0, 1); or residual: the
input's centre slice plus a tanh, which starts as the identity."""
OUTPUTS = ("tanh", "sigmoid", "residual")


class Generator25D(nn.Module):
    """Sizes and values that fit, and the last step.

    Stacks and slices are in [-1, 1] for those who call it; what the layers themselves work on is `value_range`.

    Attributes:
        channels: of the stack that goes in: slices times modalities, see `seewhy.nets.generators.slice_stack`.
        modalities: channels that come out.
    """

    def __init__(self, *, slices: int, modalities: int, output: Output, value_range: ValueRange) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ConfigError(f"model.generator.output={output!r} is unknown; {nearest(output, OUTPUTS)}")
        if slices < 1 or slices % 2 == 0:
            raise ConfigError(f"model.generator: slices={slices} must be odd, so that one is in the centre")
        self.channels, self.modalities = slices * modalities, modalities
        self.output_kind = output
        self.value_range = check_range(value_range, "model.generator.value_range")

    def enter(self, stack: Tensor) -> Tensor:
        """The stack as the first layer takes it.

        Raises:
            ConfigError: see `check`.
        """
        self.check(stack)
        return to_net(stack, self.value_range)

    def check(self, stack: Tensor) -> None:
        """Refuse a stack that does not fit.

        Raises:
            ConfigError: not [B, channels, H, W], or H or W no multiple of 4.
        """
        if stack.ndim != 4 or stack.shape[1] != self.channels or stack.shape[2] % 4 or stack.shape[3] % 4:
            raise ConfigError(
                f"{type(self).__name__} was given {tuple(stack.shape)}; expected [B, {self.channels}, H, W] with H and "
                "W multiples of 4; crop or pad by data.image_size"
            )

    def finish(self, values: Tensor, stack: Tensor) -> Tensor:
        """The slice [B, modalities, H, W] of the last convolution's values, and of the stack that came in."""
        if self.output_kind == "residual":
            return centre_slice(stack, self.modalities) + values.tanh()
        made = values.sigmoid() if self.output_kind == "sigmoid" else values.tanh()
        return from_net(made, self.value_range)

    def start(self, last: nn.Conv2d) -> None:
        """Let a residual generator begin as the identity."""
        if self.output_kind == "residual":
            nn.init.zeros_(last.weight)
            if last.bias is not None:
                nn.init.zeros_(last.bias)
