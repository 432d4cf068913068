"""Reading a file of named tensors without ever running what is in it.

Classes that may stand in a checkpoint beside tensors, because making one of them cannot run anything.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seewhy.errors import CheckpointError

__all__ = [
    "Mismatch",
    "harmless_classes",
    "plain_data",
    "read_file",
    "read_tensors",
    "refused_classes",
    "state_dict_of",
]

DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


def harmless_classes() -> list[Any]:
    """What training scripts put beside weights: numpy's numbers and arrays, paths, dicts with attributes.

    Numbers of numpy come from `metrics["auc"] = roc_auc_score(…)`, paths and attribute dicts from Lightning's
    hyperparameters. Numpy 1 and 2 call the same functions by different names, and so do Lightning's two packages.

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
    # PyTorch fills no dicts but its own, so Lightning's come back plain.
    for module in ("pytorch_lightning.utilities.parsing", "lightning.fabric.utilities.data"):
        classes.append((dict, f"{module}.AttributeDict"))
    # A path of another system cannot be made on this one, but its pure form can.
    for module in ("pathlib", "pathlib._local"):
        classes += [(pathlib.PurePosixPath, f"{module}.{kind}PosixPath") for kind in ("", "Pure")]
        classes += [(pathlib.PureWindowsPath, f"{module}.{kind}WindowsPath") for kind in ("", "Pure")]
    return classes


def plain_data(value: Any) -> Any:
    """What of a checkpoint's further content JSON can hold: numbers of numpy become plain ones, the rest its text."""
    if isinstance(value, Mapping):
        return {str(key): plain_data(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(child) for child in value]
    if isinstance(value, argparse.Namespace):
        return plain_data(vars(value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"array of shape {tuple(value.shape)}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def refused_classes(path: Path) -> list[str]:
    """Dotted names of everything in a PyTorch file that is neither tensor, plain data nor harmless.

    Empty where they cannot be told (PyTorch's format before 1.6).
    """
    if not zipfile.is_zipfile(path):
        return []
    with torch.serialization.safe_globals(harmless_classes()):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))


WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts put a state dict beside other things."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict of a `.pth`, `.pt`, `.bin`, `.ckpt` or `.safetensors` file to the CPU.

    A state dict inside a dict (`state_dict`, `model`, …) is taken out, and the prefix `module.` that
    DistributedDataParallel puts before every key is removed.

    Raises:
        CheckpointError: no such file; not a file of tensors; or one that would need unpickling of objects, which
            can run any code and is never done.
    """
    return state_dict_of(read_file(path), path)


def read_file(path: str | Path) -> Any:
    """Read all of a file of tensors and plain data to the CPU, whatever its layout.

    Besides tensors and plain data only `harmless_classes` are made.

    Raises:
        CheckpointError: as `read_tensors`; classes that are refused are named.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file; give the path of a .pth, .bin or .safetensors file")
    return _read_safetensors(path) if path.suffix == ".safetensors" or _is_safetensors(path) else _read_torch(path)


def state_dict_of(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The tensors among what `read_file` found.

    Args:
        content: a state dict, or a dict that holds one.
        path: of the file, for messages.

    Raises:
        CheckpointError: no state dict, or one with other things than tensors.
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
            f"{path}: expected a state dict (names → tensors), but {_first(others)} are no tensors; "
            "save it with torch.save(model.state_dict(), …)"
        )
    if all(key.startswith("module.") for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def _is_safetensors(path: Path) -> bool:
    """Whether a file of another name is in this format: the length of a JSON object, then the object."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(harmless_classes()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        names = refused_classes(path)
        found = f"it holds objects of {_first(names)}" if names else "it is damaged, of another format or holds objects"
        raise CheckpointError(
            f"{path}: not loaded, because it is no plain file of tensors: {found}. Objects could run any code when "
            "loaded. Where you trust the file, save its state dict alone: "
            'torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW_FILE)'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be read as a PyTorch file: {_one_line(error)}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as a safetensors file: {_one_line(error)}") from error


class Mismatch:
    """How the tensors of a file differ from those a network has, by name and shape.

    `num_batches_tracked` may be missing: old files do not have it and nothing here reads it.

    Attributes:
        missing: names the network has and the file lacks.
        unexpected: names the file has and the network lacks.
        reshaped: lines "name: [file's shape] in the file, [network's shape] here".
    """

    def __init__(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        self.missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
        self.unexpected = [name for name in found if name not in expected]
        self.reshaped = [
            f"{name}: {list(found[name].shape)} in the file, {list(tensor.shape)} here"
            for name, tensor in expected.items()
            if name in found and found[name].shape != tensor.shape
        ]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        return self.describe(count=3)

    def __len__(self) -> int:
        """Number of tensors that differ."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def describe(self, *, count: int | None = None) -> str:
        """One line per kind of difference, naming the first `count` tensors of each, or all."""
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
