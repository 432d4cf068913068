"""Compute checksums of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["file_sha256"]


def file_sha256(path: str | Path) -> str:
    """Compute the SHA-256 of a file as 64 hexadecimal digits; it is read in pieces.

    Example:
        >>> from pathlib import Path
        >>> from seewhy_run.checksums import file_sha256
        >>> _ = Path("empty").write_bytes(b"")
        >>> file_sha256("empty")[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
