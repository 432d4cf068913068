"""Files of plain data with NumPy arrays, by which processes hand results of tasks to the one that joins them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.npy import read_npz

__all__ = ["FORMAT", "check_written", "read_part", "write_part"]

FORMAT = 2
"""Format of the results that processes hand to each other; those of another version are not continued."""
ARRAY = "array of this file"
"""Key of a reference to an array; no row has such a column."""
CONTENT = "content"


def write_part(path: Path, content: Any) -> None:
    """Write plain data with NumPy arrays and numbers to a `.npz` file atomically; paths become texts, tuples lists.

    Args:
        path: the file; an existing one is replaced.
        content: nested mappings with texts as keys, sequences, arrays, texts, numbers and None.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from seewhy.sharing.parts import read_part, write_part
        >>> write_part(Path("part.npz"), {"id": "a", "map": np.zeros(2, "float32"), "score": 0.1})
        >>> read_part(Path("part.npz"))
        {'id': 'a', 'map': array([0., 0.], dtype=float32), 'score': 0.1}
    """
    arrays: list[Any] = []
    text = json.dumps(_take_arrays(content, arrays))
    named: dict[str, Any] = {f"array_{number}": array for number, array in enumerate(arrays)}
    named[CONTENT] = np.frombuffer(text.encode(), np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **named)


def read_part(path: Path) -> Any:
    """Read a file of `write_part`.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        arrays = read_npz(path)
        return _give_arrays(json.loads(arrays[CONTENT].tobytes()), arrays)
    except (DataError, OSError, ValueError, KeyError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); start the same command again") from error


def check_written(paths: Iterable[Path]) -> None:
    """Check that files which processes have written are still there.

    Raises:
        DataError: the first that is not.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} was removed while others were written; start the same command again")


def _take_arrays(content: Any, arrays: list[Any]) -> Any:
    if isinstance(content, np.ndarray | np.generic) and not isinstance(content, float):
        arrays.append(content)
        return {ARRAY: len(arrays) - 1, "scalar": isinstance(content, np.generic)}
    if isinstance(content, Mapping):
        return {key: _take_arrays(value, arrays) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_take_arrays(value, arrays) for value in content]
    return str(content) if isinstance(content, Path) else content


def _give_arrays(content: Any, file: Mapping[str, Any]) -> Any:
    if isinstance(content, dict):
        if ARRAY in content:
            array = file[f"array_{content[ARRAY]}"]
            return array[()] if content["scalar"] else array
        return {key: _give_arrays(value, file) for key, value in content.items()}
    return [_give_arrays(value, file) for value in content] if isinstance(content, list) else content
