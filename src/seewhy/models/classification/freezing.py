"""What does not learn: for good, or for the first epochs.

How deep in a network each parameter lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from seewhy.errors import ConfigError, nearest

__all__ = ["Freezing", "depth_of_parameters"]


def depth_of_parameters(network: nn.Module) -> dict[str, int]:
    """Name → depth of every parameter, 0 nearest to the image; no depth is left out in between.

    For a timm network, also inside another module, these are the layers of its own `group_matcher` (about one per
    block); for any other, its children in the order they were registered, such as the stages 0…8 of a torchvision
    `features`. A module with a single child that has parameters is looked into.
    """
    for prefix, part in network.named_modules():
        if hasattr(part, "group_matcher"):
            return _ranked(_timm_depths(part), f"{prefix}." if prefix else "")
    prefix, part = "", network
    while True:
        children = [name for name, child in part.named_children() if any(True for _ in child.parameters())]
        if len(children) != 1 or any(True for _ in part.parameters(recurse=False)):
            break
        prefix, part = f"{prefix}{children[0]}.", part.get_submodule(children[0])
    # A parameter of the part itself, such as a position embedding, comes before all children.
    place = {name: depth for depth, name in enumerate(children, start=1)}
    return _ranked({name: place.get(name.split(".")[0], 0) for name, _ in part.named_parameters()}, prefix)


def _timm_depths(network: Any) -> dict[str, int]:
    from timm.models import group_parameters

    found: dict[str, int] = group_parameters(network, network.group_matcher(), reverse=True)
    return found


def _ranked(depths: dict[str, int], prefix: str) -> dict[str, int]:
    ranks = {depth: rank for rank, depth in enumerate(sorted(set(depths.values())))}
    return {prefix + name: ranks[depth] for name, depth in depths.items()}


class Freezing:
    """Freezes parameters by name for good, and whole parts of a module for some epochs.

    Batch normalisation follows its parameters: where these are frozen, its statistics are too.

    Args:
        module: whose parameters; those that match are frozen at once.
        patterns: `fnmatch` patterns of parameter names, e.g. `net.branches.*.conv_stem.*`.
        epochs: the parts do not learn in epochs below this.
        parts: submodules, e.g. the backbones.

    Raises:
        ConfigError: a pattern that no parameter matches, or a negative number of epochs.
    """

    def __init__(
        self, module: nn.Module, *, patterns: Sequence[str] = (), epochs: int = 0, parts: Sequence[nn.Module] = ()
    ) -> None:
        if epochs < 0:
            raise ConfigError(f"model.freeze_backbone_epochs={epochs} must be 0 or more")
        names = [name for name, _ in module.named_parameters()]
        missed = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
        if missed:
            raise ConfigError(
                "; ".join(f"model.freeze: no parameter matches {one!r}; {nearest(one, names)}" for one in missed)
            )
        self.epochs = epochs
        self.active = False
        """Whether the parts are frozen in the running epoch."""
        self._module, self._parts = [module], list(parts)  # in lists, for this is no owner of modules
        for name, parameter in module.named_parameters():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                parameter.requires_grad_(False)
        self._later = [p for part in self._parts for p in part.parameters() if p.requires_grad]
        self._later_ids = {id(parameter) for parameter in self._later}

    def thaws(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter that does not learn now will learn later."""
        return id(parameter) in self._later_ids

    def begin_epoch(self, epoch: int, *, distributed: bool) -> None:
        """Freeze or thaw the parts for this epoch, and put frozen normalisation into evaluation mode.

        Args:
            epoch: counted from 0.
            distributed: DDP asks every parameter for a gradient for all of the training, so there the parts get
                gradients and only `drop_gradients` keeps them from learning.
        """
        self.active = epoch < self.epochs
        if self.epochs:
            for parameter in self._later:
                parameter.requires_grad_(distributed or not self.active)
            for part in self._parts:
                part.train(not self.active)
        for layer in self._module[0].modules():
            own = list(layer.parameters(recurse=False))
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and own and not any(p.requires_grad for p in own):
                layer.eval()

    def drop_gradients(self) -> None:
        """Forget the gradients of what is frozen in this epoch: an optimiser passes over a parameter without one."""
        if self.active:
            for parameter in self._later:
                parameter.grad = None
