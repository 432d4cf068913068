"""How many rows fit into a memory budget: measured on one row, not guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from seewhy.errors import ConfigError
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.memory_saving_autograd import MemorySavingMode

__all__ = ["MemoryBudget", "parse_bytes", "peak_bytes"]

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SLACK = 1.01  # the dead are looked for only where the peak may have grown by a percent: looking costs time


class MemoryBudget:
    """A bound on the memory that the rows of one chunk take, on whatever device they are.

    Chunks follow from the module and the shapes alone, never from what happens to be free: the same command makes
    the same chunks, and so the same bytes. What a row takes is measured once per module and shape, and kept.

    Args:
        size: e.g. "1GiB", "512MiB", or bytes.
    """

    def __init__(self, size: int | str) -> None:
        self.size = parse_bytes(size)
        self._measured: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], int]] = WeakKeyDictionary()

    def forward_rows(self, subject: ExplainedModel) -> int:
        """Rows whose forward without a graph fits, at least 1."""

        @torch.no_grad()
        def work() -> None:
            images, first = _first(subject)
            subject.scores(images, rows=first)

        return self.rows(subject, "forward", work)

    def gradient_rows(self, subject: ExplainedModel) -> int:
        """Rows whose forward and backward to the inputs fit, at least 1."""

        def work() -> None:
            images, first = _first(subject)
            leaves = [image.requires_grad_() for image in images.values()]
            with MemorySavingMode():
                scores = subject.scores(images, rows=first)
            torch.autograd.grad(scores.sum(), leaves, allow_unused=True)

        return self.rows(subject, "gradient", work)

    def rows(self, subject: ExplainedModel, kind: str, work: Callable[[], object]) -> int:
        """Rows that fit, at least 1.

        Args:
            subject: what the work is done on.
            kind: a name for the work, under which its measurement is kept.
            work: does it for one row.
        """
        kept = self._measured.setdefault(subject.module, {})
        key = (kind, *((name, image.shape[1:], image.dtype, image.device) for name, image in subject.inputs.items()))
        if key not in kept:
            resident = [*subject.module.parameters(), *subject.module.buffers()]
            resident += [*subject.inputs.values(), *subject.constants.values()]
            with self.guarded():
                kept[key] = max(peak_bytes(work, resident), 1)
        return max(self.size // kept[key], 1)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Say in words what to do when the device has no memory left.

        Raises:
            ConfigError: instead of the device's own error.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the device ran out of memory within memory_budget={self.size / 2**20:.0f}MiB; choose a lower "
                f"memory_budget (less than a single sample needs is no help: then take smaller inputs or the CPU)"
            ) from error


def parse_bytes(size: int | str) -> int:
    """Bytes of "1GiB", "512 MiB", "2GB" or a number.

    Raises:
        ConfigError: neither of these, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(size).strip())
    factor = UNITS.get(match[2].upper()) if match else None
    if match is None or factor is None or float(match[1]) * factor < 1:
        raise ConfigError(f"memory_budget={size!r}; expected a size such as '1GiB', '512MiB' or a number of bytes")
    return int(float(match[1]) * factor)


def peak_bytes(work: Callable[[], object], resident: list[Tensor]) -> int:
    """Most bytes of tensors that live at one time while the work is done, without what was there before.

    Counts every tensor that an operator returns until it is freed, also those that autograd keeps, and for a
    convolution as much scratch space as its arguments and results take. Other operators' scratch space is not seen.

    Args:
        work: runs on the calling thread.
        resident: tensors that exist before, e.g. parameters, of which views are not counted.
    """
    mode = _LiveTensors(resident)
    with mode:
        work()
    return mode.peak


class _LiveTensors(TorchDispatchMode):
    """Keeps a ledger of storages by weak references."""

    def __init__(self, resident: list[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in resident}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bytes = 0  # of all in the ledger, the dead ones that were not yet struck off among them

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        found = [one for one in (output if isinstance(output, (tuple, list)) else (output,)) if _stored(one)]
        for one in found:
            self._add(one)
        scratch = 0
        if "convolution" in func.__name__:  # brings its arguments and results into a layout of its own
            strange = [one for one in args if _stored(one) and one.untyped_storage()._cdata not in self._known]
            scratch = sum(one.untyped_storage().nbytes() for one in (*strange, *found))
        self._look(scratch)
        return output

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        if key in self._live:
            if not self._live[key][0].expired():
                return
            self._bytes -= self._live.pop(key)[1]
        self._live[key] = (StorageWeakRef(storage), storage.nbytes())
        self._bytes += storage.nbytes()

    def _look(self, scratch: int) -> None:
        """Raise the peak, if what lives and the scratch space are more."""
        if self._bytes + scratch > self.peak * SLACK:  # only then does it matter which of them are dead
            self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
            self._bytes = sum(size for _, size in self._live.values())
            self.peak = max(self.peak, self._bytes + scratch)


def _stored(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


def _first(subject: ExplainedModel) -> tuple[dict[str, Tensor], Tensor]:
    """The first sample's images, and its row number for the constants."""
    images = {name: image[:1].clone() for name, image in subject.inputs.items()}
    return images, torch.zeros(1, dtype=torch.long, device=next(iter(images.values())).device)
