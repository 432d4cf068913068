"""Options of `seewhy serve`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seewhy.errors import ConfigError
from seewhy.option_types import parse_bytes

__all__ = ["LOOPBACK", "ServingOptions"]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Addresses that only this machine reaches."""


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """Where a server listens, and its limits.

    Attributes:
        host: address; only those of `LOOPBACK` are not reachable from other machines.
        port: 0 takes a free one.
        allow_hosts: further names by which clients reach the server.
        max_upload: most bytes of a request, e.g. `512MiB`.
        max_unpacked: most bytes of a case in memory, as float32.
        max_waiting: requests that wait behind the one that is predicted.
        timeout: seconds for an upload, and again for its prediction.
        methods: explanation methods on offer; empty takes those of the run.

    Raises:
        ConfigError: values outside their ranges.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    allow_hosts: Sequence[str] = ()
    max_upload: str = "512MiB"
    max_unpacked: str = "2GiB"
    max_waiting: int = 4
    timeout: float = 600.0
    methods: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port {self.port}: expected 0 to 65535")
        if self.max_waiting < 0:
            raise ConfigError(f"--max-waiting {self.max_waiting}: expected 0 or more")
        if not self.timeout > 0:
            raise ConfigError(f"--timeout {self.timeout}: expected seconds, more than 0")
        for name, text in (("--max-upload", self.max_upload), ("--max-unpacked", self.max_unpacked)):
            try:
                parse_bytes(text)
            except ConfigError as error:
                raise ConfigError(f"{name} {text}: expected a size, e.g. 512MiB") from error

    @property
    def upload_bytes(self) -> int:
        """Most bytes of a request."""
        return parse_bytes(self.max_upload)

    @property
    def unpacked_bytes(self) -> int:
        """Most bytes of a case in memory."""
        return parse_bytes(self.max_unpacked)

    @property
    def is_public(self) -> bool:
        """Whether other machines may reach the address."""
        return self.host not in LOOPBACK
