"""Zarr stores on disks, web servers and object stores, with counted calls and retries."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from seewhy.errors import DataError
from seewhy.io.checks.sizes import check_regular_file

__all__ = [
    "BOOKKEEPING",
    "CountedStore",
    "Counters",
    "WholeStore",
    "guard_remote",
    "is_remote",
    "local_folder",
    "open_store",
]

FIELDS = ("bytes_read", "reads", "bytes_written", "writes", "retries")


class Counters:
    """Counts of bytes and calls at a store, shared by several threads.

    Attributes:
        bytes_read: compressed, as received from the store.
        reads: existing objects, or parts of objects, that were read.
        bytes_written: compressed, as sent to the store.
        writes: objects written.
        retries: calls that were repeated after a failure.
    """

    bytes_read: int
    reads: int
    bytes_written: int
    writes: int
    retries: int

    def __init__(self) -> None:
        self._lock = threading.Lock()
        for field in FIELDS:
            setattr(self, field, 0)

    def add(self, **amounts: int) -> None:
        """Increase some counts, e.g. `add(bytes_read=512, reads=1)`."""
        with self._lock:
            for field, amount in amounts.items():
                setattr(self, field, getattr(self, field) + amount)

    def record(self) -> dict[str, int]:
        """All counts, read at the same time."""
        with self._lock:
            return {field: vars(self)[field] for field in FIELDS}

    def __getstate__(self) -> dict[str, Any]:
        return self.record()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"Counters({', '.join(f'{field}={value}' for field, value in self.record().items())})"


BOOKKEEPING = ".seewhy"
"""Folder inside an output for files that only seewhy reads (the ledger of a run)."""
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
"""Suffixes of keys that hold metadata."""
PERMANENT = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR}
"""Disk errors that a retry does not fix."""
RETRIED_STATUS = {408, 425, 429}
MISSING_STATUS = {404, 410}
LONGEST_WAIT = 20.0
"""Maximum seconds between two attempts."""

Answer = TypeVar("Answer")


def is_remote(path: str) -> bool:
    """Whether a path is an address for fsspec (`https://…`, `s3://…`) instead of a local file."""
    return "://" in path and not path.startswith("file://")


def open_store(
    path: str, *, read_only: bool, counters: Counters, options: Mapping[str, Any] | None = None
) -> CountedStore:
    """Open a zarr store whose calls are counted and repeated after failures.

    Args:
        path: a local folder, or an address for fsspec.
        read_only: refuse writes.
        counters: increased by every call.
        options: `retries` (5) and `backoff` in seconds (0.2, doubled each time); all others are
            passed to fsspec's file system, e.g. `anon: true` for a public S3 bucket.

    Raises:
        DataError: the package for this kind of address is not installed, or its options are wrong.
    """
    options = dict(options or {})
    retries, backoff = int(options.pop("retries", 5)), float(options.pop("backoff", 0.2))
    if not is_remote(path):
        local = LocalStore(path.removeprefix("file://"), read_only=read_only)
        return CountedStore(local, counters=counters, retries=retries, backoff=backoff)
    with guard_remote(path):
        remote = FsspecStore.from_url(path.rstrip("/"), storage_options=options, read_only=read_only)
    return CountedStore(remote, counters=counters, retries=retries, backoff=backoff)


@contextmanager
def guard_remote(path: str) -> Iterator[None]:
    """Convert errors of opening a remote file system to a `DataError` that names the missing package or the option."""
    try:
        yield
    except ImportError as error:
        raise DataError(f"{path}: {error}; pip install 'seewhy[remote]'") from error
    except Exception as error:  # each of fsspec's file systems has its own errors, e.g. of names of hosts
        raise DataError(f"{path} cannot be opened through fsspec ({error})") from error


class CountedStore(WrapperStore[Any]):
    """Wraps a store: counts calls, retries failed ones, and checks the length of partial reads.

    Args:
        store: the wrapped store.
        counters: increased by every call.
        retries: how often a failed call is repeated.
        backoff: seconds before the first retry; each further one waits twice as long.
    """

    def __init__(self, store: Any, *, counters: Counters, retries: int = 5, backoff: float = 0.2) -> None:
        super().__init__(store)
        self._counters, self._retries, self._backoff = counters, retries, backoff

    def _with_store(self, store: Any) -> CountedStore:
        return type(self)(store, counters=self._counters, retries=self._retries, backoff=self._backoff)

    @property
    def remote(self) -> bool:
        """Whether every call goes over a network."""
        return isinstance(self._store, FsspecStore)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Get a value; None only if the key is certainly missing."""
        value = await self._retry(lambda: self._get(key, prototype, byte_range))
        if value is not None:
            self._counters.add(bytes_read=len(value), reads=1)
        return value

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        """Call `get` for each key in turn."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def set(self, key: str, value: Any) -> None:
        """Store a value."""
        await self._retry(lambda: self._store.set(key, value))
        self._counters.add(bytes_written=len(value), writes=1)

    async def _set_many(self, values: Iterable[tuple[str, Any]]) -> None:
        for key, value in values:
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """Delete a key."""
        await self._retry(lambda: self._store.delete(key))

    async def exists(self, key: str) -> bool:
        """Whether a key exists; a failing web server does not prove that it is missing."""
        self._check_object(key)
        if self.remote and "http" in self._store.fs.protocol:
            return await self._retry(lambda: self._head(key))
        return await self._retry(lambda: self._store.exists(key))

    def _check_object(self, key: str) -> None:
        """Refuse anything but a file in the place of an object.

        Zarr would wait for a pipe, and take folders and links to nothing for missing chunks.

        Raises:
            DataError: a folder, a pipe, a device, a link to nothing, or an empty file.
        """
        if isinstance(self._store, LocalStore) and not key.endswith(METADATA):
            path = os.path.join(self._store.root, key)
            if key and os.path.lexists(path) and check_regular_file(path).st_size == 0:
                raise DataError(f"{path} is empty; copy it again from its origin")

    async def _get(self, key: str, prototype: Any, byte_range: Any) -> Any:
        self._check_object(key)
        value = await self._store.get(key, prototype, byte_range)
        if value is None or byte_range is None or not self.remote:
            return value
        return _trim(value, key, byte_range)

    async def _head(self, key: str) -> bool:
        """Ask a web server for a key with HEAD; a server that does not support HEAD counts as having it."""
        files = self._store.fs
        session = await files.set_session()
        async with session.head(f"{self._store.path}/{key}", **files.kwargs) as answer:
            if answer.status in MISSING_STATUS:
                return False
            if (answer.status >= 500 and answer.status != 501) or answer.status in RETRIED_STATUS:
                raise OSError(f"HTTP status {answer.status}")
            return True

    async def _retry(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Repeat a call until it succeeds, fails permanently, or `retries` are used up."""
        temporary: tuple[type[BaseException], ...] = (OSError, asyncio.TimeoutError, *_client_errors())
        for attempt in range(self._retries + 1):
            try:
                return await call()
            except temporary as error:
                if attempt == self._retries or _is_permanent(error):
                    raise
            self._counters.add(retries=1)
            # Half of the wait is random, so that the ranks of a run do not retry at the same time.
            wait = min(self._backoff * 2**attempt, LONGEST_WAIT)
            await asyncio.sleep(wait * (0.5 + random.random() / 2))
        raise AssertionError


class WholeStore(CountedStore):
    """A store for writing whole shards: it never reads the old content of a shard, because that is replaced."""

    @classmethod
    def over(cls, store: CountedStore) -> WholeStore:
        """Wrap the same store with shared counts and retries."""
        return cls(store._store, counters=store._counters, retries=store._retries, backoff=store._backoff)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Get metadata; values count as missing."""
        if not key.endswith(METADATA):
            return None
        return await super().get(key, prototype, byte_range)


def _trim(value: Any, key: str, byte_range: Any) -> Any:
    """Cut out the requested range if a server ignored it and sent everything; raise an error if it sent too little."""
    if isinstance(byte_range, RangeByteRequest):
        wanted = byte_range.end - byte_range.start
        if len(value) > wanted:
            return value[byte_range.start : byte_range.end]
        if len(value) < wanted:
            raise OSError(f"{key}: received {len(value)} bytes instead of {wanted}")
    elif isinstance(byte_range, SuffixByteRequest) and len(value) > byte_range.suffix:
        return value[len(value) - byte_range.suffix :]
    return value


def _client_errors() -> tuple[type[Exception], ...]:
    """Errors of aiohttp besides OSError, if it is installed."""
    try:
        from aiohttp import ClientError
    except ImportError:
        return ()
    return (ClientError,)


def _is_permanent(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status < 500 and status not in RETRIED_STATUS
    if isinstance(error, FileNotFoundError | PermissionError):
        return True
    return isinstance(error, OSError) and error.errno in PERMANENT


def local_folder(path: str) -> Path | None:
    """Folder of a local path; None for a remote path."""
    return None if is_remote(path) else Path(path.removeprefix("file://"))
