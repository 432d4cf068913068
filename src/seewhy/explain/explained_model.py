"""A module with its inputs, called in one way for every kind of module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from inspect import signature
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError

__all__ = ["Explainable", "ExplainableModule", "ExplainedModel", "Inputs", "Target"]

Inputs: TypeAlias = "Tensor | Mapping[str, Tensor] | Sequence[Tensor]"
"""One image batch [B, C, *spatial]; or several, by name or by position."""
Target: TypeAlias = "int | Tensor | Sequence[int] | None"
"""Class index of all samples or of each sample; None is the predicted class."""


@dataclass(frozen=True, kw_only=True)
class Explainable:
    """Description of how a module is explained, returned by its method `explainable()`.

    Attributes:
        inputs: names of the images that can be explained, in the order in which the module processes them; other
            entries of an input dict are held constant.
        layers: input → dotted name of the submodule whose output activations are used. If one submodule runs once
            per input, its calls are assigned in order to the inputs that name it.
        attention: dotted names of attention modules, first to last.
        classes: names of the classes.
        multi_label: whether each column of the scores has its own sigmoid, instead of one softmax over all columns.
    """

    inputs: tuple[str, ...] = ("image",)
    layers: Mapping[str, str] = field(default_factory=dict)
    attention: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    multi_label: bool = False


@runtime_checkable
class ExplainableModule(Protocol):
    """A module that describes how it is explained."""

    def explainable(self) -> Explainable:
        """Describe inputs, layers, attention modules and classes."""
        ...


class ExplainedModel:
    """A module and a batch for it, by name.

    A single tensor is the module's only input; a sequence gives inputs by position. A module with `explainable()` is
    called with the single tensor or with one dict of inputs. Any other module is called with the tensor, with
    positional or with keyword arguments, and each [B, C, H, W] or [B, C, D, H, W] among them is explained.

    Attributes:
        module: the module, without the wrapper of `torch.compile`.
        about: the module's own description, or a default for other modules.
        inputs: name → [B, C, *spatial], the explained images, without gradient.
        constants: name → [B, ...], all other inputs of the module.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> model = ExplainedModel(net, torch.zeros(2, 1, 4, 4))
        >>> list(model.inputs), model.batch, model.scores(model.inputs).shape
        (['image'], 2, torch.Size([2, 3]))
    """

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        self.module: nn.Module = getattr(module, "_orig_mod", module)  # torch.compile wraps the module
        about = self.module.explainable() if isinstance(self.module, ExplainableModule) else None
        self._takes_dict = about is not None and not isinstance(inputs, Tensor)
        self._takes_keywords = isinstance(inputs, Mapping)
        given = _name_inputs(inputs, about.inputs if about else ())
        if about is None:
            given = _sort_as_called(self.module, given)
        self.about = about or Explainable(inputs=tuple(name for name, one in given.items() if one.ndim in (4, 5)))
        self._order = tuple(given)
        self._check(given)
        with torch.inference_mode(False):  # cloned, since tensors created in inference mode can never enter a graph
            copies = {name: tensor.detach().clone() for name, tensor in given.items()}
        self.inputs = {name: copies.pop(name) for name in self.about.inputs}
        self.constants = copies

    @property
    def batch(self) -> int:
        """B, the number of samples."""
        return len(next(iter(self.inputs.values())))

    def changed(self, inputs: Mapping[str, Tensor], rows: Tensor) -> ExplainedModel:
        """Return the same module with other images.

        Args:
            inputs: name → [n, C, *spatial], with the names of `self.inputs`.
            rows: [n] sample that each row was made from; its constants are used.
        """
        other = copy(self)
        other.inputs = dict(inputs)
        other.constants = {name: value[rows] for name, value in self.constants.items()}
        return other

    def scores(self, inputs: Mapping[str, Tensor], *, rows: Tensor | None = None) -> Tensor:
        """Compute raw class scores [n, K] of changed inputs.

        Args:
            inputs: name → [n, C, *spatial], with the names of `self.inputs`.
            rows: [n] sample that each row was made from; its constants are used. None means n = B, in order.
        """
        constants = self.constants if rows is None else {name: value[rows] for name, value in self.constants.items()}
        everything = {name: inputs[name] if name in inputs else constants[name] for name in self._order}
        if self._takes_dict:
            output = self.module(everything)
        elif self._takes_keywords:
            output = self.module(**everything)
        else:
            output = self.module(*everything.values())
        return _get_scores(output, self.module)

    def targets(self, target: Target, scores: Tensor) -> Tensor:
        """Resolve a target to the class index of each sample, [B] int64.

        Args:
            target: class index, one index per sample, or None for the predicted class.
            scores: [B, K] of the unchanged inputs.

        Raises:
            ConfigError: an index out of range, or a wrong number of indices.
        """
        classes = max(scores.shape[1], 2)  # a single column has the classes 0 and 1
        if target is None:
            return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(dim=1)
        chosen = torch.as_tensor(target, device=scores.device)
        if chosen.is_floating_point() or chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != len(scores)):
            raise ConfigError(f"target={target!r}: expected one class index, or one for each of {len(scores)} samples")
        wrong = sorted({int(one) for one in chosen.flatten() if not 0 <= int(one) < classes})
        if wrong:
            names = f" ({', '.join(self.about.classes)})" if self.about.classes else ""
            raise ConfigError(f"target {wrong} is not a class; expected 0 to {classes - 1}{names}")
        return chosen.long().expand(len(scores)).clone()

    def target_scores(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the score of each row's target, [n]; a single column is the score of class 1, its negative of 0."""
        if scores.shape[1] == 1:
            return scores[:, 0] * (2 * target - 1).to(scores)
        return scores.gather(1, target[:, None])[:, 0]

    def probabilities(self, scores: Tensor, target: Tensor) -> Tensor:
        """Return the probability of each row's target, [n] in [0, 1]."""
        scores = scores.detach().float()
        if scores.shape[1] == 1 or self.about.multi_label:
            return self.target_scores(scores, target).sigmoid()
        return self.target_scores(scores.softmax(dim=1), target)

    def _check(self, given: Mapping[str, Tensor]) -> None:
        kind = type(self.module).__name__
        shapes = ", ".join(f"{name} {tuple(one.shape)}" for name, one in given.items())
        missing = [name for name in self.about.inputs if name not in given]
        if missing:
            raise ConfigError(
                f"{kind} explains the inputs {', '.join(self.about.inputs)}; missing: {', '.join(missing)}"
            )
        wrong = [name for name in self.about.inputs if given[name].ndim not in (4, 5)]
        if wrong or not self.about.inputs:
            raise ConfigError(f"{kind} got {shapes}; expected images [B, C, H, W] or volumes [B, C, D, H, W]")
        if len({len(tensor) for tensor in given.values()}) > 1:
            raise ConfigError(f"{kind} got {shapes}; expected equal batch sizes")


def _name_inputs(inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    """Name inputs as the module does, or `image`, or `input_0`, `input_1` and so on."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not names:
        names = ["image"] if isinstance(inputs, Tensor) else [f"input_{number}" for number in range(len(listed))]
    if len(names) != len(listed):
        raise ConfigError(f"{len(listed)} inputs for {', '.join(names)}; expected one for each, or a dict")
    return dict(zip(names, listed, strict=True))


def _sort_as_called(module: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sort named inputs as in the signature of `forward`, which is assumed to be the order of processing."""
    order = list(signature(module.forward).parameters)
    return dict(sorted(given.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(given)))


def _get_scores(output: object, module: nn.Module) -> Tensor:
    """Return the class scores in a module's output: a tensor, the attribute `logits`, or the first of a tuple."""
    output = getattr(output, "logits", output)
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    if isinstance(first, Tensor) and first.ndim == 1:
        first = first[:, None]
    if not isinstance(first, Tensor) or first.ndim != 2:
        returned = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ConfigError(f"{type(module).__name__} returned {returned}; expected class scores [B, K]")
    return first
