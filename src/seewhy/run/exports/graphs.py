"""Write networks as ONNX files or programs of torch.export, and compare them with torch before they are used."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seewhy.errors import ConfigError, ExportError
from seewhy.io.atomic import file_sha256
from seewhy.models.exporting import ExportGraph

__all__ = ["FORMATS", "write_graph"]

FORMATS = {"onnx": "onnx", "torch_export": "pt2"}
"""Format → ending of its files."""
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference to torch, relative to values above 1."""


def write_graph(graph: ExportGraph, folder: Path, *, name: str, form: str) -> tuple[dict[str, Any], float]:
    """Write a network and compare it with torch, for the example and for another batch and size.

    ONNX files are made by tracing: networks become small graphs in seconds, whose free sizes are compared with torch
    here, since a size that tracing has fixed would otherwise show only later.

    Args:
        graph: the network.
        folder: of the file.
        name: of the file, without its ending.
        form: `onnx` or `torch_export`.

    Returns:
        The file's description (`seewhy_run.graphs.GraphRecord`), and the largest difference.

    Raises:
        ConfigError: the package onnx or onnxruntime is not installed.
        ExportError: the network cannot be exported, or gives other results.
    """
    path = folder / f"{name}.{FORMATS[form]}"
    module = graph.module.eval()
    try:
        (_write_onnx if form == "onnx" else _write_program)(module, graph, path)
    except ModuleNotFoundError as error:
        raise ConfigError(f"format={form} needs {error.name}: pip install 'seewhy[export]'") from error
    except Exception as error:  # the exporters raise many kinds of errors
        raise ExportError(f"{type(module).__name__} cannot be exported as {form}: {_first_line(error)}") from error
    difference = max(_compare(module, graph, path, form, inputs) for inputs in _examples(graph, form))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the exported network differs from torch by {difference:.1e}, more than {TOLERANCE}; it was not written"
        )
    inputs = [
        {"name": key, "shape": _shape(graph, key, form), "dtype": str(value.dtype).removeprefix("torch.")}
        for key, value in graph.inputs.items()
    ]
    record = {
        "file": path.name,
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "inputs": inputs,
        "outputs": list(graph.outputs),
        "multiple_of": graph.multiple_of,
    }
    return record, difference


def _shape(graph: ExportGraph, key: str, form: str) -> list[int | str]:
    """Sizes of an input; names where any size is allowed. A program of torch.export has a free batch only."""
    free = graph.free.get(key, {}) if form == "onnx" else {}
    return ["batch", *(free.get(axis, size) for axis, size in enumerate(graph.inputs[key].shape[1:], start=1))]


def _write_onnx(module: nn.Module, graph: ExportGraph, path: Path) -> None:
    axes = {key: {0: "batch", **graph.free.get(key, {})} for key in graph.inputs}
    names = {name: {0: "batch"} for name in graph.outputs}
    # With gradients, no network splits its batch into pieces, whose number tracing would fix.
    with torch.enable_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(graph.inputs.values()),
            str(path),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={**axes, **names},
            opset_version=OPSET,
            dynamo=False,
        )


def _write_program(module: nn.Module, graph: ExportGraph, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in graph.inputs)
    # With gradients, no network splits its batch into pieces, whose number would be fixed.
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, tuple(graph.inputs.values()), dynamic_shapes=shapes, strict=False)
        torch.export.save(program, path)


def _examples(graph: ExportGraph, form: str) -> list[list[Tensor]]:
    """Inputs to compare with: a batch of one, and one of three with other sizes where they are free."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for batch, added in ((1, 0), (3, 8 * graph.multiple_of)):
        inputs = []
        for key, value in graph.inputs.items():
            shape = [batch, *value.shape[1:]]
            if form == "onnx":
                for place, axis in enumerate(graph.free.get(key, {}), start=1):
                    shape[axis] += added * place
            drawn = torch.rand(shape, generator=generator)
            if value.dtype == torch.bool:
                drawn = drawn > 0.3
                drawn[:, 0] = True
            inputs.append(drawn)
        examples.append(inputs)
    return examples


def _compare(module: nn.Module, graph: ExportGraph, path: Path, form: str, inputs: Sequence[Tensor]) -> float:
    """Largest difference between the file and the module; relative for values above 1."""
    with torch.no_grad():
        expected = module(*inputs)
        found = _run_onnx(path, graph, inputs) if form == "onnx" else torch.export.load(path).module()(*inputs)
    pairs = zip(_to_arrays(expected), _to_arrays(found), strict=True)
    return max(
        float((np.abs(a - b) / np.maximum(np.abs(a), 1)).max()) if a.shape == b.shape else np.inf for a, b in pairs
    )


def _run_onnx(path: Path, graph: ExportGraph, inputs: Sequence[Tensor]) -> list[Any]:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ConfigError("format=onnx needs onnxruntime: pip install 'seewhy[export]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        given = {key: value.numpy() for key, value in zip(graph.inputs, inputs, strict=True)}
        return list(session.run(list(graph.outputs), given))
    except Exception as error:  # onnxruntime has classes of its own for each status
        shapes = [list(value.shape) for value in inputs]
        raise ExportError(f"the exported network fails on {shapes}, which torch takes: {_first_line(error)}") from error


def _to_arrays(outputs: Any) -> list[np.ndarray[Any, Any]]:
    parts = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [part.detach().numpy() if isinstance(part, Tensor) else part for part in parts]


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
