"""Parts of an export: networks with examples of their inputs, and the steps that use their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["ExportGraph", "ExportParts"]


@dataclass(frozen=True, kw_only=True)
class ExportGraph:
    """A network to export.

    Attributes:
        module: takes the inputs in order, and returns a tensor or a tuple of tensors.
        inputs: name → example, a batch of two.
        free: name → axis → name of its size, for the axes that may have any size besides the batch.
        outputs: names, in order.
        multiple_of: what free sizes must be divisible by.
        definition: `_target_` and arguments of the class of MONAI that the network is; None for other networks.
        defined: the network of this class, of which `module` returns the output; None for other networks.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, str]]
    outputs: Sequence[str]
    multiple_of: int = 1
    definition: Mapping[str, Any] | None = None
    defined: nn.Module | None = None


@dataclass(frozen=True, kw_only=True)
class ExportParts:
    """What a model exports.

    Attributes:
        graphs: name → network.
        steps: steps of `seewhy_run.steps` after reading, in order.
        classes: names of the classes; empty where there are none.
        facts: further plain data for the description.
    """

    graphs: Mapping[str, ExportGraph]
    steps: Sequence[Any]
    classes: Sequence[str] = ()
    facts: Mapping[str, Any] | None = None
