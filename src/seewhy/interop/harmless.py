"""Classes that may stand in a checkpoint beside tensors, because making one of them cannot run anything."""

from __future__ import annotations

import argparse
import math
import pathlib
import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["harmless_classes", "plain_data", "refused_classes"]

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
