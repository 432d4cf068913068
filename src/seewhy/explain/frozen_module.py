"""Freeze a module while it is explained, and restore it afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from seewhy.errors import ConfigError

__all__ = ["keep_unchanged"]


@contextmanager
def keep_unchanged(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, frozen parameters, gradients and full precision; restore the module afterwards.

    Frozen parameters keep graphs small and `.grad` untouched. Inference mode (used by Lightning's predict) and
    autocast are disabled, since neither allows exact gradients. Compiled code runs uncompiled, since it does not see
    new hooks.

    Args:
        module: the module; parts of it, or functions that it calls, may be compiled.

    Raises:
        ConfigError: a module in training mode whose mode cannot be changed, as `torch.export` makes.

    Example:
        >>> from torch import nn
        >>> from seewhy.explain.frozen_module import keep_unchanged
        >>> net = nn.Linear(2, 2)
        >>> with keep_unchanged(net):
        ...     net.training, net.weight.requires_grad
        (False, False)
        >>> net.training, net.weight.requires_grad
        (True, True)
    """
    parts = list(module.modules())
    training = [part for part in parts if part.training]
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    devices = {parameter.device.type for parameter in module.parameters()} | {"cpu"}
    try:
        if training:
            _switch_to_evaluation(module)
        for parameter in trainable:
            parameter.requires_grad_(False)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for device in devices:
                stack.enter_context(torch.autocast(device, enabled=False))
            if "torch._dynamo" in sys.modules:  # imported only where something is compiled; its import takes seconds
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for part in training:
            part.training = True


def _switch_to_evaluation(module: nn.Module) -> None:
    try:
        module.eval()
    except NotImplementedError as error:
        raise ConfigError(
            f"{type(module).__name__} is exported, so its mode cannot be changed; explain the nn.Module that it was "
            "exported from"
        ) from error
