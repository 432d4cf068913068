"""Zarr stores on disks, web servers and object stores: every call counted, failing ones made again.

How much has passed between a store and us.
"""

from __future__ import annotations

import asyncio
import errno
import random
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from seewhy.errors import DataError

__all__ = [
    "BOOKKEEPING",
    "CountedStore",
    "Counters",
    "WholeStore",
    "is_remote",
    "local_folder",
    "open_store",
    "remote_extra",
]

FIELDS = ("bytes_read", "reads", "bytes_written", "writes", "retries")


class Counters:
    """Bytes and calls at a store, added to by several threads.

    Attributes:
        bytes_read: as they came from the store, still compressed.
        reads: objects or parts of objects that were there.
        bytes_written: as they went to the store, compressed.
        writes: objects put.
        retries: calls that failed and were made again.
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
        """Add to some of the counts, e.g. `add(bytes_read=512, reads=1)`."""
        with self._lock:
            for field, amount in amounts.items():
                setattr(self, field, getattr(self, field) + amount)

    def record(self) -> dict[str, int]:
        """All counts at one moment."""
        with self._lock:
            return {field: getattr(self, field) for field in FIELDS}

    def __getstate__(self) -> dict[str, Any]:
        return self.record()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"Counters({', '.join(f'{field}={value}' for field, value in self.record().items())})"


BOOKKEEPING = ".seewhy"
"""Folder inside an output for what only we read (the ledger of a run)."""
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
"""Ends of the keys that hold no values."""
HOPELESS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG, errno.ENOTDIR}
"""Errors of a disk that trying again does not mend."""
RETRIED_STATUS = {408, 425, 429}
MISSING_STATUS = {404, 410}
LONGEST_WAIT = 20.0
"""Seconds between two attempts at most."""

Answer = TypeVar("Answer")


def is_remote(path: str) -> bool:
    """Whether a path is an address for fsspec (`https://…`, `s3://…`) and no local file."""
    return "://" in path and not path.startswith("file://")


def open_store(
    path: str, *, read_only: bool, counters: Counters, options: Mapping[str, Any] | None = None
) -> CountedStore:
    """A zarr store whose calls are counted and repeated after failures.

    Args:
        path: a local folder, or an address for fsspec.
        read_only: no writing through it.
        counters: is added to.
        options: `retries` (5) and `backoff` in seconds (0.2, doubled each time); all else goes to fsspec's
            file system, e.g. `anon: true` for a public S3 bucket.

    Raises:
        DataError: the package for this kind of address is not installed, or its options are wrong.
    """
    options = dict(options or {})
    retries, backoff = int(options.pop("retries", 5)), float(options.pop("backoff", 0.2))
    if not is_remote(path):
        local = LocalStore(path.removeprefix("file://"), read_only=read_only)
        return CountedStore(local, counters=counters, retries=retries, backoff=backoff)
    with remote_extra(path):
        remote = FsspecStore.from_url(path.rstrip("/"), storage_options=options, read_only=read_only)
    return CountedStore(remote, counters=counters, retries=retries, backoff=backoff)


class remote_extra:  # noqa: N801 - used as a function
    """Guard the making of a remote file system: what is missing or wrong is said in one line."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ImportError):
            raise DataError(f"{self.path}: {error}; pip install 'seewhy[remote]'") from error
        if isinstance(error, (ValueError, TypeError)):
            raise DataError(f"{self.path} cannot be opened through fsspec ({error})") from error


class CountedStore(WrapperStore[Any]):
    """Another store with counts, with retries, and with a watch over the length of partial reads.

    Args:
        store: the store itself.
        counters: is added to.
        retries: how often a failed call is made again.
        backoff: seconds before the first of these; each further one waits twice as long.
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
        """As the store's own; None where the key is certainly missing."""
        value = await self._tried(lambda: self._get(key, prototype, byte_range))
        if value is not None:
            self._counters.add(bytes_read=len(value), reads=1)
        return value

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        """One `get` after the other."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def set(self, key: str, value: Any) -> None:
        """As the store's own."""
        await self._tried(lambda: self._store.set(key, value))
        self._counters.add(bytes_written=len(value), writes=1)

    async def _set_many(self, values: Iterable[tuple[str, Any]]) -> None:
        for key, value in values:
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """As the store's own."""
        await self._tried(lambda: self._store.delete(key))

    async def exists(self, key: str) -> bool:
        """As the store's own, but a failing web server is no proof of absence."""
        if self.remote and "http" in self._store.fs.protocol:
            return await self._tried(lambda: self._head(key))
        return await self._tried(lambda: self._store.exists(key))

    async def _get(self, key: str, prototype: Any, byte_range: Any) -> Any:
        value = await self._store.get(key, prototype, byte_range)
        if value is None or byte_range is None or not self.remote:
            return value
        return _trimmed(value, key, byte_range)

    async def _head(self, key: str) -> bool:
        """Ask a web server; one that knows no HEAD counts as having the key."""
        files = self._store.fs
        session = await files.set_session()
        async with session.head(f"{self._store.path}/{key}", **files.kwargs) as answer:
            if answer.status in MISSING_STATUS:
                return False
            if (answer.status >= 500 and answer.status != 501) or answer.status in RETRIED_STATUS:
                raise OSError(f"HTTP status {answer.status}")
            return True

    async def _tried(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make a call until it succeeds, its failure is hopeless, or `retries` are used up."""
        passing: tuple[type[BaseException], ...] = (OSError, asyncio.TimeoutError, *_client_errors())
        for attempt in range(self._retries + 1):
            try:
                return await call()
            except passing as error:
                if attempt == self._retries or _hopeless(error):
                    raise
            self._counters.add(retries=1)
            # Half of the wait is random, so that the ranks of a run do not come back together.
            wait = min(self._backoff * 2**attempt, LONGEST_WAIT)
            await asyncio.sleep(wait * (0.5 + random.random() / 2))
        raise AssertionError


class WholeStore(CountedStore):
    """A store for writing whole shards: it never reads back what a shard held, since that is replaced."""

    @classmethod
    def over(cls, store: CountedStore) -> WholeStore:
        """The same store, its counts and its patience shared."""
        return cls(store._store, counters=store._counters, retries=store._retries, backoff=store._backoff)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Metadata only."""
        if not key.endswith(METADATA):
            return None
        return await super().get(key, prototype, byte_range)


def _trimmed(value: Any, key: str, byte_range: Any) -> Any:
    """The wanted part where a server ignored the range and sent all; an error where it sent too little."""
    if isinstance(byte_range, RangeByteRequest):
        wanted = byte_range.end - byte_range.start
        if len(value) > wanted:
            return value[byte_range.start : byte_range.end]
        if len(value) < wanted:
            raise OSError(f"{key}: {len(value)} bytes came instead of {wanted}")
    elif isinstance(byte_range, SuffixByteRequest) and len(value) > byte_range.suffix:
        return value[len(value) - byte_range.suffix :]
    return value


def _client_errors() -> tuple[type[Exception], ...]:
    """What aiohttp raises besides OSError, where it is installed."""
    try:
        from aiohttp import ClientError
    except ImportError:
        return ()
    return (ClientError,)


def _hopeless(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status < 500 and status not in RETRIED_STATUS
    return isinstance(error, FileNotFoundError | PermissionError) or getattr(error, "errno", None) in HOPELESS


def local_folder(path: str) -> Path | None:
    """The folder of a local path; None for a remote one."""
    return None if is_remote(path) else Path(path.removeprefix("file://"))
