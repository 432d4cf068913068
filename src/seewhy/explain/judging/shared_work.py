"""Results that all methods share which are judged on one batch, computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from seewhy.explain.judging.perturbation import hash_images

__all__ = ["SharedWork"]

Result = TypeVar("Result")


class SharedWork:
    """Results of one batch by name: re-initialised weights, scores without an input, curves of random orders.

    They are forgotten when another module or another batch comes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain.judging.shared_work import SharedWork
        >>> work, net, image = SharedWork(), nn.Identity(), {"image": torch.ones(1, 1, 2, 2)}
        >>> work.of(net, image).get("sum", lambda: 4.0), work.of(net, image).get("sum", lambda: 5.0)
        (4.0, 4.0)
    """

    def __init__(self) -> None:
        self._batch: object = None
        self._results: dict[object, Any] = {}

    def of(self, module: nn.Module, images: Mapping[str, Tensor]) -> SharedWork:
        """Forget the results of another module or batch, and return itself."""
        batch = (id(module), tuple(images), tuple(hash_images(images)))
        if batch != self._batch:
            self._batch, self._results = batch, {}
        return self

    def get(self, name: object, compute: Callable[[], Result]) -> Result:
        """Return a result, and compute it if it is not known."""
        if name not in self._results:
            self._results[name] = compute()
        result: Result = self._results[name]
        return result

    def find(self, name: object) -> Any:
        """Return a result; None if it is not known."""
        return self._results.get(name)

    def keep(self, name: object, result: object) -> None:
        """Keep a result."""
        self._results[name] = result
