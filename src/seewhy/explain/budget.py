"""Memory budget: the number of rows that fit, measured on one row."""

from __future__ import annotations

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
from seewhy.option_types import parse_bytes

__all__ = ["MemoryBudget", "measure_peak_bytes"]

SLACK = 1.01  # freed tensors are searched for only when the peak may have grown by 1 %, since the search takes time

CACHED, ENOUGH = 64 * 2**20, 16
"""On a CPU, more than 16 rows run at a time only while they use less than 64 MiB: rows that do not fit into its cache
take twice as long (`benchmarks/explain.py --claims judge`, infidelity: .52 s in chunks of 1 GiB, .25 s in these)."""


class MemoryBudget:
    """Limit on the memory that the rows of one chunk use, on any device.

    The chunk size depends only on the module and the shapes, not on the memory that is free at the moment: the same
    command makes the same chunks and so the same bytes. The memory of a row is measured once per module and shape.

    Args:
        size: e.g. "1GiB", "512MiB", or a number of bytes.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import ExplainedModel
        >>> from seewhy.explain.budget import MemoryBudget
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 2))
        >>> rows = MemoryBudget("1MiB").forward_rows(ExplainedModel(net, torch.zeros(2, 1, 8, 8)))
        >>> rows == MemoryBudget("1MiB").forward_rows(ExplainedModel(net, torch.ones(5, 1, 8, 8))) > 100
        True
    """

    def __init__(self, size: float | str) -> None:
        self.size = parse_bytes(size)
        self._measured: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], int]] = WeakKeyDictionary()

    def forward_rows(self, subject: ExplainedModel) -> int:
        """Return the number of rows whose forward without a graph fits, at least 1."""

        @torch.no_grad()
        def work() -> None:
            images, first = _take_first_sample(subject)
            subject.scores(images, rows=first)

        return self.rows(subject, "forward", work)

    def gradient_rows(self, subject: ExplainedModel) -> int:
        """Return the number of rows whose forward and backward to the inputs fit, at least 1."""

        def work() -> None:
            images, first = _take_first_sample(subject)
            leaves = [image.requires_grad_() for image in images.values()]
            with MemorySavingMode():
                scores = subject.scores(images, rows=first)
            torch.autograd.grad(scores.sum(), leaves, allow_unused=True)

        return self.rows(subject, "gradient", work)

    def rows(self, subject: ExplainedModel, kind: str, work: Callable[[], object]) -> int:
        """Return the number of rows that fit, at least 1.

        Args:
            subject: module and batch.
            kind: name of the work; its measurement is stored under this name.
            work: does the work for one row.
        """
        measured = self._measured.setdefault(subject.module, {})
        key = (kind, *((name, image.shape[1:], image.dtype, image.device) for name, image in subject.inputs.items()))
        if key not in measured:
            resident = [*subject.module.parameters(), *subject.module.buffers()]
            resident += [*subject.inputs.values(), *subject.constants.values()]
            with self.guarded():
                measured[key] = max(measure_peak_bytes(work, resident), 1)
        fitting = max(self.size // measured[key], 1)
        on_cpu = next(iter(subject.inputs.values())).device.type == "cpu"
        return min(fitting, max(CACHED // measured[key], ENOUGH)) if on_cpu else fitting

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn an out-of-memory error into one that names the option to change.

        Raises:
            ConfigError: the device ran out of memory.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the device ran out of memory within memory_budget={self.size / 2**20:.0f}MiB; choose a lower "
                f"memory_budget; if a single sample does not fit, use smaller inputs or the CPU"
            ) from error


def measure_peak_bytes(work: Callable[[], object], resident: list[Tensor]) -> int:
    """Measure the peak memory of the tensors that are created while `work` runs, in bytes.

    Counts every tensor that an operator returns until it is freed, including those that autograd keeps, and for a
    convolution as much scratch space as its arguments and results take. Scratch space of other operators is not seen.

    Args:
        work: runs on the calling thread.
        resident: tensors that exist before, e.g. parameters; they and their views are not counted.
    """
    mode = _LiveTensors(resident)
    with mode:
        work()
    return mode.peak


class _LiveTensors(TorchDispatchMode):
    """Track storages by weak references."""

    def __init__(self, resident: list[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in resident}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bytes = 0  # of all tracked storages, including freed ones that were not yet removed

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        results = [one for one in (output if isinstance(output, (tuple, list)) else (output,)) if _has_storage(one)]
        for tensor in results:
            self._add(tensor)
        scratch = 0
        if "convolution" in func.__name__:  # copies its arguments and results into another layout
            new = [one for one in args if _has_storage(one) and one.untyped_storage()._cdata not in self._known]
            scratch = sum(tensor.untyped_storage().nbytes() for tensor in (*new, *results))
        self._update_peak(scratch)
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

    def _update_peak(self, scratch: int) -> None:
        if self._bytes + scratch > self.peak * SLACK:  # only then does it matter which tensors were freed
            self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
            self._bytes = sum(size for _, size in self._live.values())
            self.peak = max(self.peak, self._bytes + scratch)


def _has_storage(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided


def _take_first_sample(subject: ExplainedModel) -> tuple[dict[str, Tensor], Tensor]:
    """Return the first sample's images, and its row number for the constants."""
    images = {name: image[:1].clone() for name, image in subject.inputs.items()}
    return images, torch.zeros(1, dtype=torch.long, device=next(iter(images.values())).device)
