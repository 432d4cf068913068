"""Refuse networks that a file of data names, if they are larger than the file with their weights can fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from seewhy.errors import CheckpointError

__all__ = ["limit_network"]

SMALL = 2**24
"""Elements that any network may have: 64 MB, so that tables of small networks are never refused."""
MOST_MODULES = 10_000
"""Modules of a network; the largest that can be imported have some thousands."""


@contextmanager
def limit_network(weights: str | Path, *, where: str) -> Iterator[None]:
    """Refuse, before memory is taken, to build a network with more weights than the bytes of their file.

    A configuration from elsewhere may name any number of channels. Tensors are created only if they have no more
    elements than the file has bytes, and parameters of the network are counted while it is built.

    Args:
        weights: file with the weights of the network.
        where: what names the network, for messages.

    Raises:
        CheckpointError: the network is larger.

    Example:
        >>> import torch
        >>> from seewhy.interop.network_size import limit_network
        >>> torch.save({}, "weights.pt")
        >>> with limit_network("weights.pt", where="config.json"):
        ...     network = torch.nn.Linear(10**6, 10**6)
        Traceback (most recent call last):
        seewhy.errors.CheckpointError: config.json names a network with more than ... weights, ...
    """
    path = Path(weights)
    size = path.stat().st_size if path.is_file() else 0
    limit = _Limit(max(size, SMALL), where, path, size)
    handles = [
        hooks.register_module_parameter_registration_hook(limit.count_parameter),
        hooks.register_module_module_registration_hook(limit.count_module),
    ]
    try:
        with limit:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Limit(TorchDispatchMode):
    """Asks for the size of every result on the meta device, which takes no memory, before it is computed."""

    def __init__(self, most: int, where: str, path: Path, size: int) -> None:
        super().__init__()
        self.most, self.where, self.path, self.size = most, where, path, size
        self.parameters, self.modules = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        in_place = func._schema.name.endswith("_")  # e.g. the draws of initial weights
        if not in_place and self._find_largest(func, args, options) > self.most:
            self._refuse()
        return func(*args, **options)

    def count_parameter(self, module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        """Add a parameter that a module registers."""
        self.parameters += 0 if parameter is None else parameter.numel()
        if self.parameters > self.most:
            self._refuse()

    def count_module(self, module: nn.Module, name: str, child: nn.Module | None) -> None:
        """Add a module that another one registers."""
        self.modules += 1
        if self.modules > MOST_MODULES:
            raise CheckpointError(
                f"{self.where} names a network of more than {MOST_MODULES} parts, so it is not built; "
                "use a file of a network that was trained"
            )

    def _find_largest(self, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> int:
        """Elements of the largest result of an operation; 0 where the meta device cannot tell, as for `item`."""
        factory = not any(isinstance(leaf, Tensor) for leaf in tree_leaves((args, options)))
        named = {**options, "device": torch.device("meta")} if factory or "device" in options else options
        try:
            result = func(*tree_map_only(Tensor, _to_meta, args), **tree_map_only(Tensor, _to_meta, named))
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return 0 if not factory else _count_asked(args)
        return max((leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)), default=0)

    def _refuse(self) -> None:
        raise CheckpointError(
            f"{self.where} names a network with more than {self.most} weights, but {self.path} has {self.size} bytes; "
            "use the file of the weights that belong to it"
        )


def _to_meta(tensor: Tensor) -> Tensor:
    return tensor.detach().to("meta")


def _count_asked(args: Sequence[Any]) -> int:
    """Elements of a size in the arguments of a factory function that the meta device does not know."""
    sizes = [arg for arg in args if isinstance(arg, (list, tuple)) and all(isinstance(size, int) for size in arg)]
    product = 1
    for length in sizes[0] if sizes else ():
        product *= max(int(length), 0)
    return product
