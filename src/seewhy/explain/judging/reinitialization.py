"""Re-initialise the weights of a module temporarily, for the randomisation test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError
from seewhy.explain.any_module import keep_unchanged
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.judging.shared_work import SharedWork

__all__ = ["find_head", "reinitialize"]

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
MOST_BYTES = 64 * 2**20
"""Largest size of the weights of a draw that are kept for the next method."""


@contextmanager
def reinitialize(
    subject: ExplainedModel,
    parts: Sequence[nn.Module] | None = None,
    *,
    seed: int,
    shared: SharedWork | None = None,
) -> Iterator[None]:
    """Replace trained weights by fresh ones; afterwards the same tensors are restored, also after an error.

    Submodules are re-initialised by their `reset_parameters`; parameters of submodules without this method (tokens,
    positions) are shuffled, which keeps their mean and standard deviation. Statistics of batch normalisation are
    measured again on the images of the batch, because random weights with the statistics of the trained ones give
    vanishing activations. The trained tensors are never written to; the cost is one copy of the replaced parameters.

    Args:
        subject: module and batch.
        parts: submodules to re-initialise, with all their children; None is the whole module.
        seed: seed of the weights; the random state of PyTorch does not change.
        shared: keeps the drawn weights for the next call with the same batch, parts and seed, up to 64 MiB a draw.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.judging import reinitialize
        >>> net, image = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.rand(1, 1, 2, 2)
        >>> before = net(image)
        >>> with reinitialize(ExplainedModel(net, image), seed=0):
        ...     changed = net(image)
        >>> torch.equal(changed, before), torch.equal(net(image), before)
        (False, True)
    """
    roots = [subject.module] if parts is None else parts
    chosen = list(dict.fromkeys(part for root in roots for part in root.modules()))
    parameters: list[tuple[nn.Parameter, Tensor]] = []
    buffers: list[tuple[nn.Module, str, Tensor]] = []
    name_of_draw = ("weights", seed, None if parts is None else tuple(map(id, parts)))
    known = None if shared is None else shared.of(subject.module, subject.everything).find(name_of_draw)
    drawn: dict[str, Tensor] = {}
    try:
        # Inference mode (Lightning's predict) would create tensors without gradients.
        with torch.inference_mode(False), torch.no_grad():
            for parameter in dict.fromkeys(p for part in chosen for p in part.parameters(recurse=False)):
                name = f"parameter {len(parameters)}"
                parameters.append((parameter, parameter.data))
                drawn[name] = parameter.data.clone() if known is None else known[name]
                parameter.data = drawn[name]
            for part in chosen:
                for key, buffer in part.named_buffers(recurse=False):
                    name = f"buffer {len(buffers)}"
                    buffers.append((part, key, buffer))
                    drawn[name] = buffer.clone() if known is None else known[name]
                    part._buffers[key] = drawn[name]
            if known is None:
                _draw_parameters(chosen, seed)
                _measure_statistics(subject, chosen)
                if shared is not None and sum(value.nbytes for value in drawn.values()) <= MOST_BYTES:
                    shared.keep(name_of_draw, drawn)
        yield
    finally:
        for parameter, trained in parameters:
            parameter.data = trained
        for part, name, trained in buffers:
            part._buffers[name] = trained


def find_head(subject: ExplainedModel) -> list[nn.Module]:
    """Find the submodules that turn features into scores.

    These are all submodules with parameters that run only after the layers in the module's `explainable()`; without
    such layers, the linear or convolutional submodule that runs last.

    Raises:
        ConfigError: no submodule with parameters runs in a forward.
    """
    order = _list_calls(subject)
    names = {part: name for name, part in subject.module.named_modules()}
    layers = set(subject.about.layers.values())
    last = max((position for position, part in enumerate(order) if names[part] in layers), default=None)
    if last is not None:
        # A layer is listed when it returns, so its children are listed before it.
        before = {*order[: last + 1], *(part for part in names if layers & {names[child] for child in part.modules()})}
        after = [part for part in dict.fromkeys(order[last + 1 :]) if part not in before and _has_parameters(part)]
        if after:
            return after
    parametrised = [part for part in order if _has_parameters(part)]
    weighted = [part for part in parametrised if isinstance(part, WEIGHTED)] or parametrised
    if not weighted:
        raise ConfigError(f"{type(subject.module).__name__} runs no submodule with parameters to re-initialise")
    return [weighted[-1]]


def _has_parameters(part: nn.Module) -> bool:
    return next(part.parameters(recurse=False), None) is not None


def _list_calls(subject: ExplainedModel) -> list[nn.Module]:
    """List all submodules in the order in which they return during a forward."""
    order: list[nn.Module] = []
    hooks = [part.register_forward_hook(lambda part, *_: order.append(part)) for part in subject.module.modules()]
    try:
        with keep_unchanged(subject.module), torch.no_grad():
            subject.scores(subject.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _draw_parameters(parts: list[nn.Module], seed: int) -> None:
    devices = {p.device.index or 0 for part in parts for p in part.parameters(recurse=False) if p.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices)):
        # Not torch.manual_seed, which seeds every GPU, including those that are not restored.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        for part in parts:
            reset = _find_reset(part)
            if reset is not None and _needs_no_arguments(reset):
                reset()
                continue
            for parameter in part.parameters(recurse=False):
                order = torch.randperm(parameter.numel()).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))


@runtime_checkable
class _Resets(Protocol):
    def reset_parameters(self) -> object: ...


@runtime_checkable
class _ResetsPrivately(Protocol):
    def _reset_parameters(self) -> object: ...


def _find_reset(part: nn.Module) -> Callable[[], object] | None:
    """Find the method by which PyTorch's layers draw their parameters; None for a layer without one."""
    if isinstance(part, _Resets):
        return part.reset_parameters
    return part._reset_parameters if isinstance(part, _ResetsPrivately) else None


def _needs_no_arguments(function: object) -> bool:
    required = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return all(one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in required)


def _measure_statistics(subject: ExplainedModel, parts: list[nn.Module]) -> None:
    """Measure mean and variance of each batch normalisation over all its calls in one forward."""
    normalizing = [part for part in parts if _has_running_statistics(part)]
    moments: dict[nn.Module, tuple[int, Tensor, Tensor]] = {}

    # By hooks in evaluation mode instead of training mode, so that processes exchange no samples (SyncBatchNorm) and a
    # single value per channel does not raise an error.
    def measure(part: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        new = (x.numel() // x.shape[1], *torch.var_mean(x.float(), dim=axes, correction=0))
        moments[part] = count, variance, mean = _pool_moments(moments[part], new) if part in moments else new
        if count > 1:
            part.running_mean.copy_(mean)  # type: ignore[operator]
            part.running_var.copy_(variance * count / (count - 1))  # type: ignore[operator]

    hooks = [part.register_forward_pre_hook(measure) for part in normalizing]
    try:
        if hooks:
            with keep_unchanged(subject.module), torch.no_grad():
                subject.scores(subject.inputs)
    finally:
        for hook in hooks:
            hook.remove()


def _has_running_statistics(part: nn.Module) -> bool:
    return {"running_mean", "running_var"} <= {name for name, _ in part.named_buffers(recurse=False)}


def _pool_moments(first: tuple[int, Tensor, Tensor], second: tuple[int, Tensor, Tensor]) -> tuple[int, Tensor, Tensor]:
    """Combine count, variance and mean of two sets of values (Chan 1979)."""
    count = first[0] + second[0]
    step = second[2] - first[2]
    mean = first[2] + step * second[0] / count
    squares = first[1] * first[0] + second[1] * second[0] + step**2 * first[0] * second[0] / count
    return count, squares / count, mean
