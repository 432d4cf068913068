"""Any module while it is explained: frozen and restored, and the class scores in what it returns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["NamedTupleLike", "find_scores", "keep_unchanged"]


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
        >>> from seewhy.explain.any_module import keep_unchanged
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


SCORE_NAMES = ("logits", "scores", "out", "output", "predictions", "prediction", "preds", "pred")
"""Names under which modules return their scores next to other values; the first that exists is used."""
REMEDY = "wrap the module so that it returns its class scores [B, K] alone, or names them `logits`"


def find_scores(output: object, samples: int, module: str) -> Tensor:
    """Find the class scores [B, K] in a module's output.

    The scores are the output itself, the value named in `SCORE_NAMES`, or the only floating-point tensor [B] or [B, K]
    of a tuple or dict. A tensor [B] is one column; for one sample, a tensor [K] is its row.

    Args:
        output: a tensor, tuple, list, dict, or an object with an attribute `logits`.
        samples: B, the number of samples that the module got.
        module: name of the module's class, for messages.

    Raises:
        ConfigError: no scores, several tensors that may be the scores, or rows that are not the samples.

    Example:
        >>> import torch
        >>> from seewhy.explain.any_module import find_scores
        >>> find_scores({"logits": torch.zeros(2, 3), "features": torch.zeros(2, 8)}, 2, "Net").shape
        torch.Size([2, 3])
        >>> find_scores((torch.zeros(2, 8), torch.zeros(2, 3)), 2, "Net")
        Traceback (most recent call last):
        seewhy.errors.ConfigError: Net returned 0: (2, 8), 1: (2, 3), each of which may be the class scores; ...
    """
    values = _name_values(output)
    if values is None:
        return _to_columns(output, samples, module)
    named = [name for name in SCORE_NAMES if name in values]
    fitting = named[:1] or [name for name, value in values.items() if _may_be_scores(value, samples)]
    if len(fitting) == 1:
        return _to_columns(values[fitting[0]], samples, module)
    listed = ", ".join(f"{name}: {_describe(value)}" for name, value in values.items()) or "nothing"
    if fitting:
        raise ConfigError(f"{module} returned {listed}, each of which may be the class scores; {REMEDY}")
    raise ConfigError(f"{module} returned {listed}; expected class scores [{samples}, K]; {REMEDY}")


@runtime_checkable
class _HasLogits(Protocol):
    """Outputs of the models of Hugging Face."""

    logits: Any


@runtime_checkable
class NamedTupleLike(Protocol):
    """Instances of every named tuple."""

    _fields: tuple[str, ...]

    def _make(self, items: Iterable[Any]) -> Any:
        """Make another one with other items."""


def _name_values(output: object) -> dict[str, Any] | None:
    """Return the values of an output by name or position; None if it is a single value."""
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if isinstance(output, _HasLogits) and output.logits is not None and not isinstance(output, Tensor):
        return {"logits": output.logits}
    if isinstance(output, tuple | list):
        fields = output._fields if isinstance(output, NamedTupleLike) else range(len(output))
        return {str(name): value for name, value in zip(fields, output, strict=True)}
    return None


def _may_be_scores(value: object, samples: int) -> bool:
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.ndim in (1, 2)
        and (len(value) == samples or (samples == 1 and value.ndim == 1 and len(value) > 0))
    )


def _to_columns(value: object, samples: int, module: str) -> Tensor:
    if isinstance(value, Tensor) and _may_be_scores(value, samples) and value.numel():
        if value.ndim == 2:
            return value
        return value[None] if samples == 1 else value[:, None]
    if isinstance(value, Tensor) and value.ndim == 0 and samples == 1 and value.is_floating_point():
        return value.reshape(1, 1)
    raise ConfigError(
        f"{module} returned {_describe(value)} for {samples} sample{'s' * (samples != 1)}; expected class scores "
        f"[{samples}, K], floating-point, one row for each sample; {REMEDY}"
    )


def _describe(value: object) -> str:
    """Describe a value by its shape, or by its type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{tuple(value.shape)}{'' if value.dtype == torch.float32 else f' {value.dtype}'.replace('torch.', '')}"
