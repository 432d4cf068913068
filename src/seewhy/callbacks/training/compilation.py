"""Compile the networks of a model while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torchmetrics import Metric

from seewhy.errors import ConfigError, nearest

__all__ = ["CompileNetworks"]


class CompileNetworks(Callback):
    """Runs the networks of a model by `torch.compile` while it trains.

    Each network is compiled in place: names of weights, checkpoints and averages stay as they are. After training
    the networks run uncompiled, so that explainers see their layers.

    Args:
        backend: of `torch.compile`.
        mode: of `torch.compile`; None is its default.
        dynamic: compile for any size at once; None compiles for each size, and for any after the second one.

    Raises:
        ConfigError: unknown backend, with the nearest.
    """

    def __init__(
        self,
        *,
        backend: str = "inductor",
        mode: Literal["default", "reduce-overhead", "max-autotune"] | None = None,
        dynamic: bool | None = None,
    ) -> None:
        known = torch.compiler.list_backends(exclude_tags=None)
        if backend not in known:
            raise ConfigError(f"callbacks.compile.backend={backend!r} is unknown; {nearest(backend, known)}")
        self.backend, self.mode, self.dynamic = backend, mode, dynamic

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compile each network at its first call."""
        for network in find_networks(pl_module):
            network.compile(backend=self.backend, mode=self.mode, dynamic=self.dynamic)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the networks as they are again."""
        for network in find_networks(pl_module):
            network._compiled_call_impl = None


def find_networks(module: nn.Module) -> Iterator[nn.Module]:
    """Find the largest parts of a model that are called and have parameters.

    Example:
        >>> model = nn.Module()
        >>> model.generators = nn.ModuleDict({"a2b": nn.Linear(2, 2), "b2a": nn.Linear(2, 2)})
        >>> model.loss = nn.CrossEntropyLoss()
        >>> list(find_networks(model))
        [Linear(in_features=2, out_features=2, bias=True), Linear(in_features=2, out_features=2, bias=True)]
    """
    for child in module.children():
        if isinstance(child, (nn.ModuleDict, nn.ModuleList)):
            yield from find_networks(child)
        elif not isinstance(child, Metric) and next(child.parameters(), None) is not None:
            yield child
