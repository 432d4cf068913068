"""Read and write the scores of single slices as a table, in Parquet and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path, replace_non_finite

__all__ = ["read_samples", "write_samples"]

COLUMNS = ("subject", "patient", "domain", "direction", "slice", "id", "modality", "comparison", "metric", "value")


def write_samples(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write `samples.parquet` and `samples.json`, each atomically.

    JSON has no infinity (the PSNR of equal images): it contains null there, the Parquet file contains the value.

    Args:
        folder: created if it does not exist.
        rows: with `subject`, `patient`, `domain`, `direction`, `slice`, `id`, `modality`, `comparison`, `metric`,
            `value`; further columns are kept.

    Returns:
        The Parquet file.
    """
    import pandas as pd

    rows = [dict(row) for row in rows]
    further = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    table = pd.DataFrame(rows, columns=[*COLUMNS, *further]).astype({"slice": "int64", "value": "float64"})
    path = folder / "samples.parquet"
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, engine="pyarrow", index=False)
    with atomic_path(folder / "samples.json") as temporary, temporary.open("w", encoding="utf-8") as file:
        # One row per line keeps a file with hundreds of thousands of rows readable and small.
        file.write("[\n" + ",\n".join(json.dumps(replace_non_finite(row), allow_nan=False) for row in rows) + "\n]\n")
    return path


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """Read the rows that `write_samples` wrote.

    Raises:
        DataError: the file is missing, damaged, or has no such columns.
    """
    import pandas as pd

    path = folder / "samples.parquet"
    if not path.is_file():
        raise DataError(f"{path} does not exist; create it with: python -m seewhy evaluate run={folder.parent}")
    try:
        table = pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MemoryError) as error:
        raise DataError(f"{path} cannot be read ({error}); create it again: python -m seewhy evaluate …") from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path} has no columns {', '.join(missing)}; create it again: python -m seewhy evaluate …")
    numbers = {"slice": "i", "value": "f"}
    wrong = [
        f"{name} as {table[name].dtype}" for name in COLUMNS
        if table[name].dtype.kind not in numbers.get(name, "OTUS") or (name != "value" and table[name].hasnans)
        or (name not in numbers and not table[name].map(lambda cell: isinstance(cell, str)).all())
    ]  # fmt: skip
    if wrong:
        raise DataError(f"{path} stores {', '.join(wrong)}; create it again: python -m seewhy evaluate …")
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
