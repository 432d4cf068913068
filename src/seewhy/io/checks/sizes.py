"""Checks before a file is read: that it is a file, and that the size its header announces is plausible.

A header of a few bytes can announce terabytes. The size is compared with what is stored before memory or disk is
taken.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from seewhy.errors import DataError

__all__ = [
    "DEFLATE_RATIO",
    "check_announced",
    "check_memory",
    "check_regular_file",
    "find_file_problems",
    "format_bytes",
    "has_file",
    "physical_memory",
]

DEFLATE_RATIO = 1032
"""Bytes that one byte of a deflate stream (gzip, zip, PNG) can stand for at most (RFC 1951: 258 bytes in 2 bits)."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Memory limit of a container on Linux: a number of bytes, or `max`."""


def check_regular_file(path: str | Path) -> os.stat_result:
    """Check that a path is a regular file; reading from a pipe or a device might never end.

    Returns:
        Facts of the file, e.g. its size.

    Raises:
        DataError: it does not exist, cannot be reached, or is a folder, a pipe, a device or a socket.

    Example:
        >>> check_regular_file("/dev/null")
        Traceback (most recent call last):
        seewhy.errors.DataError: /dev/null is a device; expected a file
    """
    try:
        facts = Path(path).stat()
    except FileNotFoundError as error:
        if os.path.islink(path):  # as git-annex and DataLad leave a file that is not fetched
            message = f"{path} is a link to {os.readlink(path)}, which does not exist; fetch or copy that file"
            raise DataError(message) from error
        raise DataError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{path} cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISREG(facts.st_mode):
        return facts
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    raise DataError(f"{path} is a {kinds.get(stat.S_IFMT(facts.st_mode), 'device')}; expected a file")


def has_file(path: str | Path) -> bool:
    """Whether there is a file; anything else of this name is an error, and not a file that is missing.

    Raises:
        DataError: a folder, a pipe, a device, or a link to nothing.

    Example:
        >>> has_file("none.png")
        False
    """
    if not os.path.lexists(path):
        return False
    check_regular_file(path)
    return True


def find_file_problems(path: str | Path, remedy: str) -> list[str]:
    """List what is wrong with the path of a file: nothing is there, with a remedy, or no file.

    Example:
        >>> find_file_problems("none.nii", "leave the cell empty")
        ['none.nii does not exist; leave the cell empty']
    """
    try:
        return [] if has_file(path) else [f"{path} does not exist; {remedy}"]
    except DataError as error:
        return error.problems


def check_announced(path: str | Path, announced: int, *, stored: int, packed: bool = False) -> None:
    """Check that a file can hold the bytes that its header announces.

    Args:
        path: the file.
        announced: bytes of the values, and of what precedes them.
        stored: bytes of the file.
        packed: whether it is a deflate stream.

    Raises:
        DataError: the file is too short for them.
    """
    if announced > stored * (DEFLATE_RATIO if packed else 1):
        most = f"can hold at most {format_bytes(stored * DEFLATE_RATIO)}" if packed else f"has {format_bytes(stored)}"
        raise DataError(
            f"{path} is truncated or damaged: its header announces {format_bytes(announced)}, the file {most}; "
            "copy or download it again"
        )


def check_memory(path: str | Path, needed: int) -> None:
    """Check that values fit into this machine's memory (or a container's), before they are read.

    Raises:
        DataError: they do not.
    """
    available = physical_memory()
    if available is not None and needed > available:
        raise DataError(
            f"{path} needs {format_bytes(needed)} of memory to be read; this machine has {format_bytes(available)}"
        )


def physical_memory() -> int | None:
    """Bytes of memory of this machine, or the limit of the container; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    try:
        limit = CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def format_bytes(count: int) -> str:
    """Bytes with a unit.

    Example:
        >>> format_bytes(512), format_bytes(3 << 30)
        ('512 bytes', '3.0 GiB')
    """
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} bytes"
