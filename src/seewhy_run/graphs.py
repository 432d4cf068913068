"""Networks in ONNX files, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy_run.errors import RunError

__all__ = ["Graph", "GraphRecord", "Tensor", "open_graph"]


@dataclass(frozen=True)
class Tensor:
    """An input or output of a network.

    Attributes:
        name: in the file.
        shape: sizes; names where any size is allowed.
        dtype: `float32` or `bool`.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class GraphRecord:
    """Description of a network's file.

    Attributes:
        file: name in the export's folder.
        sha256: of the file.
        bytes: its size.
        inputs: in order.
        outputs: names, in order.
        multiple_of: sizes with a name must be multiples of this.
    """

    file: str
    sha256: str
    bytes: int
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[str, ...]
    multiple_of: int = 1


class Graph:
    """A network that takes and gives arrays.

    Args:
        session: of onnxruntime.
        record: its description.
    """

    def __init__(self, session: Any, record: GraphRecord) -> None:
        self._session = session
        self.record = record
        self.inputs = [
            Tensor(item["name"], tuple(item["shape"]), item.get("dtype", "float32")) for item in record.inputs
        ]

    def __call__(self, *arrays: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the network on a batch.

        Args:
            arrays: the inputs, in order.

        Returns:
            Output → array.

        Raises:
            RunError: an array of another shape than the network takes.
        """
        for tensor, array in zip(self.inputs, arrays, strict=True):
            fixed = [
                have == want if isinstance(want, int) else axis == 0 or have % self.record.multiple_of == 0
                for axis, (have, want) in enumerate(zip(array.shape, tensor.shape, strict=True))
            ]
            if not all(fixed):
                shape = "x".join(str(side) for side in tensor.shape)
                many = f", {self.record.multiple_of} dividing named sides" if self.record.multiple_of > 1 else ""
                raise RunError(
                    f"{self.record.file} takes {tensor.name} of {shape}{many}, but this case has "
                    f"{'x'.join(map(str, array.shape))}; prepare it like the training data"
                )
        given = {
            tensor.name: np.ascontiguousarray(array, tensor.dtype)
            for tensor, array in zip(self.inputs, arrays, strict=True)
        }
        try:
            results = self._session.run(list(self.record.outputs), given)
        except Exception as error:  # onnxruntime has classes of its own for each status
            detail = " ".join(str(error).split())[:200]
            raise RunError(f"{self.record.file} fails on {[array.shape for array in arrays]}: {detail}") from error
        return dict(zip(self.record.outputs, results, strict=True))


def open_graph(path: Path, record: GraphRecord, *, threads: int = 0) -> Graph:
    """Open a network's file for the CPU.

    Args:
        path: the ONNX file, whose checksum was compared.
        record: its description.
        threads: of the network; 0 takes all cores.

    Raises:
        RunError: onnxruntime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise RunError("onnxruntime is not installed: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # see above
        raise RunError(f"{path} cannot be read by onnxruntime ({' '.join(str(error).split())[:200]})") from error
    names = [item.name for item in session.get_inputs()]
    if names != [item["name"] for item in record.inputs]:
        raise RunError(f"{path} takes {names}, but its description names {[item['name'] for item in record.inputs]}")
    return Graph(session, record)
