"""Networks in ONNX files, run by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    dtype: Literal["float32", "bool"] = "float32"


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

    Raises:
        RunError: no inputs or outputs, a name that is given twice, or a multiple below 1.
    """

    file: str
    sha256: str
    bytes: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    multiple_of: int = 1

    def __post_init__(self) -> None:
        for kind, names in (("inputs", [tensor.name for tensor in self.inputs]), ("outputs", list(self.outputs))):
            if not names or len(set(names)) < len(names):
                raise RunError(f"{self.file}: its {kind} are {', '.join(names) or 'none'}; expected different names")
        if self.multiple_of < 1:
            raise RunError(f"{self.file}: multiple_of={self.multiple_of}; expected 1 or more")


class Graph:
    """A network that takes and gives arrays.

    Args:
        session: of onnxruntime.
        record: its description.
    """

    def __init__(self, session: Any, record: GraphRecord) -> None:
        self._session = session
        self.record = record
        self.inputs = record.inputs

    def __call__(self, *arrays: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the network on a batch.

        Args:
            arrays: the inputs, in order.

        Returns:
            Output → array.

        Raises:
            RunError: an array of another shape than the network takes.
        """
        if [array.ndim for array in arrays] != [len(tensor.shape) for tensor in self.inputs]:
            raise RunError(
                f"{self.record.file} takes {', '.join(map(self._format, self.inputs))}, but its description gives it "
                f"{', '.join('x'.join(map(str, array.shape)) for array in arrays)}; export again"
            )
        for tensor, array in zip(self.inputs, arrays, strict=True):
            fixed = [
                have == want if isinstance(want, int) else axis == 0 or have % self.record.multiple_of == 0
                for axis, (have, want) in enumerate(zip(array.shape, tensor.shape, strict=True))
            ]
            if not all(fixed):
                many = f", {self.record.multiple_of} dividing named sides" if self.record.multiple_of > 1 else ""
                raise RunError(
                    f"{self.record.file} takes {self._format(tensor)}{many}, but this case has "
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

    @staticmethod
    def _format(tensor: Tensor) -> str:
        return f"{tensor.name} of {'x'.join(map(str, tensor.shape))}"


def open_graph(path: Path, record: GraphRecord, *, threads: int = 0) -> Graph:
    """Open a network's file for the CPU.

    Args:
        path: the ONNX file, whose checksum was compared.
        record: its description.
        threads: of the network; 0 takes all cores.

    Raises:
        RunError: onnxruntime is not installed or cannot read the file, or the file has other inputs or outputs.
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
    described = ([tensor.name for tensor in record.inputs], set(record.outputs))
    held = ([item.name for item in session.get_inputs()], {item.name for item in session.get_outputs()})
    if described[0] != held[0] or not described[1] <= held[1]:
        raise RunError(
            f"{path} takes {', '.join(held[0])} and gives {', '.join(sorted(held[1]))}, but its description names "
            f"{', '.join(described[0])} and {', '.join(sorted(described[1]))}; export again"
        )
    return Graph(session, record)
