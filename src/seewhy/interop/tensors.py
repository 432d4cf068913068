"""Read files of named tensors without running code that they contain."""

from __future__ import annotations

import argparse
import math
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from seewhy.errors import CheckpointError, DataError
from seewhy.io.checks.sizes import check_regular_file

__all__ = [
    "Mismatch",
    "check_finite_weights",
    "extract_state_dict",
    "list_foreign_tensors",
    "list_refused_classes",
    "list_safe_globals",
    "read_file",
    "read_tensors",
    "to_plain_data",
]

LEVELS = 50
MOST_REPEATED = 2**32
"""Bytes of tensors that repeat stored values."""
DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


READ_ERRORS = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(AssertionError, OverflowError, MemoryError, ImportError, SafetensorError, struct.error, RecursionError),
)
"""Errors of PyTorch's and safetensors' readers for damaged files."""


def list_safe_globals() -> list[Any]:
    """List the classes that may be unpickled with the weights, because creating their objects cannot run code.

    They are numpy's numbers and arrays, e.g. from `metrics["auc"] = roc_auc_score(…)`, and the paths and attribute
    dicts of Lightning's hyperparameters. Numpy 1 and 2 use different names for the same functions, and so do
    Lightning's two packages.

    Returns:
        Entries for `torch.serialization.safe_globals`.
    """
    # Numpy 2 moved the module of its C functions.
    multiarray: Any = import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    scalar, rebuild = multiarray.scalar, multiarray._reconstruct
    classes: list[Any] = [np.dtype, np.ndarray, argparse.Namespace]
    classes += [type(np.dtype(code)) for code in DTYPES]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        classes += [(scalar, f"{module}.scalar"), (rebuild, f"{module}._reconstruct")]
    # PyTorch fills only plain dicts, so Lightning's attribute dicts are read as such.
    for module in ("pytorch_lightning.utilities.parsing", "lightning.fabric.utilities.data"):
        classes.append((dict, f"{module}.AttributeDict"))
    # A path of another operating system cannot be created on this one, but a pure path can.
    for module in ("pathlib", "pathlib._local"):
        classes += [(pathlib.PurePosixPath, f"{module}.{kind}PosixPath") for kind in ("", "Pure")]
        classes += [(pathlib.PureWindowsPath, f"{module}.{kind}WindowsPath") for kind in ("", "Pure")]
    return classes


def to_plain_data(value: Any, *, levels: int = LEVELS) -> Any:
    """Convert the contents of a checkpoint to data that JSON can hold.

    Numbers of numpy become plain numbers, arrays their shapes, and other objects their texts.

    Args:
        value: of any type.
        levels: of mappings and lists that are kept; below them stands `…`, since a file can nest them without end.

    Example:
        >>> import numpy as np
        >>> from seewhy.interop.tensors import to_plain_data
        >>> to_plain_data({"auc": np.float64(0.75), "loss": float("nan"), "curve": np.zeros(3)})
        {'auc': 0.75, 'loss': 'nan', 'curve': 'array of shape (3,)'}
    """
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping | list | tuple):
        if not levels:
            return "…"
        if isinstance(value, Mapping):
            return {str(key): to_plain_data(child, levels=levels - 1) for key, child in value.items()}
        return [to_plain_data(child, levels=levels - 1) for child in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"array of shape {tuple(value.shape)}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def list_refused_classes(path: Path) -> list[str]:
    """List the dotted names of the classes for which a PyTorch file is refused.

    Empty for PyTorch's format before 1.6, and for damaged files, which cannot be inspected.
    """
    if not zipfile.is_zipfile(path):
        return []
    try:
        with torch.serialization.safe_globals(list_safe_globals()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (pickle.UnpicklingError, *READ_ERRORS):
        return []


WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts store a state dict together with other contents."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a `.pth`, `.pt`, `.bin`, `.ckpt` or `.safetensors` file to the CPU.

    A state dict inside a dict (`state_dict`, `model`, …) is found, and the prefix `module.` that
    DistributedDataParallel adds to every key is removed.

    Raises:
        CheckpointError: no such file, not a file of tensors, or a file of objects: unpickling them could run any
            code and is never done.
    """
    return extract_state_dict(read_file(path), path)


def read_file(path: str | Path) -> Any:
    """Read the whole contents of a file of tensors and plain data to the CPU, in any layout.

    Other objects are created only of the classes in `list_safe_globals`.

    Raises:
        CheckpointError: as `read_tensors`; the message names the refused classes.
    """
    path = Path(path)
    try:
        check_regular_file(path)
    except DataError as error:
        message = f"{path}: no such weights file; give the path of a .pth, .bin or .safetensors file"
        raise CheckpointError(f"{error}; give a file of weights" if path.exists() else message) from error
    return _read_safetensors(path) if path.suffix == ".safetensors" or _is_safetensors(path) else _read_torch(path)


def extract_state_dict(content: Any, path: str | Path) -> dict[str, Tensor]:
    """Extract the state dict from the contents of a file.

    Args:
        content: a state dict, or a dict that holds one.
        path: of the file, for messages.

    Raises:
        CheckpointError: no state dict, values that are not tensors, or tensors that are no plain weights.
    """
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(key, str) for key in content):
        raise CheckpointError(
            f"{path}: expected a state dict (names → tensors), found {type(content).__name__}; "
            "save it with torch.save(model.state_dict(), …)"
        )
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f"{path}: expected a state dict (names → tensors), but {_first(others)} are not tensors; "
            "save it with torch.save(model.state_dict(), …)"
        )
    if foreign := list_foreign_tensors(content):
        raise CheckpointError(f"{path}: {_first(foreign)}; expected tensors of real numbers, dense and on the CPU")
    if all(key.startswith("module.") for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def list_foreign_tensors(state: Mapping[str, Any]) -> list[str]:
    """List tensors that are not plain weights: sparse, quantized, complex, or without values.

    So are those that repeat stored values, by which a file of a few bytes can announce any number of elements, where
    all of them together are larger than `MOST_REPEATED`.

    Example:
        >>> list_foreign_tensors({"weight": torch.zeros(1, dtype=torch.complex64), "bias": torch.zeros(1)})
        ['weight is a torch.complex64 tensor of layout torch.strided on cpu']
    """
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    problems = {
        name: f"{name} is a {value.dtype} tensor of layout {value.layout} on {value.device}"
        for name, value in tensors.items()
        if value.layout is not torch.strided or value.is_meta or value.is_complex() or value.is_quantized
    }
    sizes = {name: value.numel() * value.element_size() for name, value in tensors.items() if name not in problems}
    repeated = {name: size for name, size in sizes.items() if size > tensors[name].untyped_storage().nbytes()}
    if sum(repeated.values()) > MOST_REPEATED:
        problems |= {name: f"{name} repeats values to the shape {tuple(tensors[name].shape)}" for name in repeated}
    return list(problems.values())


def _is_safetensors(path: Path) -> bool:
    """Whether a file of another suffix begins like this format: the length of a JSON object, then the object."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(list_safe_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = list_refused_classes(path)
        reason = (
            f"it holds objects of {_first(names)}" if names else "it is damaged, of another format or holds objects"
        )
        raise CheckpointError(
            f"{path}: not loaded, because it is not a plain file of tensors: {reason}. Objects could run any code when "
            "loaded. If you trust the file, save its state dict alone: "
            'torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW_FILE)'
        ) from error
    except READ_ERRORS as error:
        raise CheckpointError(f"{path}: cannot be read as a PyTorch file: {_one_line(error)}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except READ_ERRORS as error:
        raise CheckpointError(f"{path}: cannot be read as a safetensors file: {_one_line(error)}") from error


def check_finite_weights(network: nn.Module, tensors: Mapping[str, Any], path: str | Path) -> None:
    """Refuse weights and buffers that are NaN, infinite or integers, e.g. of a network quantized by hand.

    Buffers that are so in the network itself, e.g. masks, may be so in the file.

    Args:
        network: that the tensors are for.
        tensors: names of the network → tensors.
        path: origin of the tensors, for messages.

    Raises:
        CheckpointError: the number of such tensors and the name of the first.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> check_finite_weights(net, {"bias": torch.tensor([float("nan")])}, "a.ckpt")
        Traceback (most recent call last):
        seewhy.errors.CheckpointError: a.ckpt: 1 of 1 weights are not finite (first: bias), ...
    """
    own: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    own |= {
        name: buffer
        for name, buffer in network.named_buffers(remove_duplicate=False)
        if buffer.is_floating_point() and (buffer.is_meta or bool(torch.isfinite(buffer).all()))
    }
    names = [name for name in tensors if name in own]
    if whole := [name for name in names if not tensors[name].is_floating_point()]:
        raise CheckpointError(
            f"{path}: {len(whole)} of {len(names)} weights are integers (first: {whole[0]}, "
            f"{tensors[whole[0]].dtype}); expected floating-point numbers, unquantized"
        )
    wrong = [name for name in names if not bool(torch.isfinite(tensors[name]).all())]
    if wrong:
        raise CheckpointError(
            f"{path}: {len(wrong)} of {len(names)} weights are not finite (first: {wrong[0]}), so every score would be "
            "NaN; use another checkpoint, or train again with a lower model.optimizer.lr"
        )


class Mismatch:
    """Differences between the tensors of a file and those of a network, by name and shape; false if there are none.

    `num_batches_tracked` may be missing: old files do not have it and seewhy does not read it.

    Args:
        tensors: of the file.
        expected: of the network.

    Attributes:
        missing: names that only the network has.
        unexpected: names that only the file has.
        reshaped: lines "name: [file's shape] in the file, [network's shape] here".

    Example:
        >>> import torch
        >>> from seewhy.interop.tensors import Mismatch
        >>> print(Mismatch({"bias": torch.zeros(2)}, {"bias": torch.zeros(3), "weight": torch.zeros(3)}))
          1 not in the file: weight
          1 of another shape: bias: [2] in the file, [3] here
    """

    def __init__(self, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        self.missing = [name for name in expected if name not in tensors and not name.endswith("num_batches_tracked")]
        self.unexpected = [name for name in tensors if name not in expected]
        self.reshaped = [
            f"{name}: {list(tensors[name].shape)} in the file, {list(tensor.shape)} here"
            for name, tensor in expected.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        return self.describe(count=3)

    def __len__(self) -> int:
        """Number of tensors that differ."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def describe(self, *, count: int | None = None) -> str:
        """Describe each kind of difference in one line with its first `count` tensors, or all."""
        lines = []
        for text, names in (
            ("not in the file", self.missing),
            ("only in the file", self.unexpected),
            ("of another shape", self.reshaped),
        ):
            if names:
                lines.append(f"  {len(names)} {text}: {_first(names, len(names) if count is None else count)}")
        return "\n".join(lines)


def _first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    rest = f", … and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
