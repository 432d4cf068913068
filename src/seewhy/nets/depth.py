"""How deep in a network each parameter lies."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["depth_of_parameters"]


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
