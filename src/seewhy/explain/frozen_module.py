"""A module lent out to be explained, and given back as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

__all__ = ["keep_unchanged"]


@contextmanager
def keep_unchanged(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, frozen parameters, gradients on, full precision; afterwards everything is as before.

    Frozen parameters keep graphs small and `.grad` untouched. Inference mode (Lightning's predict) and autocast
    are left, since neither allows exact gradients. Whatever is compiled runs uncompiled meanwhile: compiled code
    does not see new hooks.

    Args:
        module: the module; parts of it, or functions that it calls, may be compiled.
    """
    parts = list(module.modules())
    training = [part for part in parts if part.training]
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    devices = {parameter.device.type for parameter in module.parameters()} | {"cpu"}
    try:
        module.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for device in devices:
                stack.enter_context(torch.autocast(device, enabled=False))
            if "torch._dynamo" in sys.modules:  # nothing is compiled before it is imported, which takes seconds
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for part in training:
            part.training = True
