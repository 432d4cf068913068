"""Checks of every request before it is read (names, pages of others, size of its body), and errors for its client."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seewhy.errors import DataError, SeewhyError
from seewhy.io.checks.sizes import format_bytes

__all__ = ["Guard", "RequestError", "check_host", "check_origin", "format_problem"]

TOO_LARGE, FORBIDDEN, MISDIRECTED = 413, 403, 421
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every answer that does not set its own."""
SAFE_SITES = ("same-origin", "none")
"""Values of Sec-Fetch-Site: this page, or typed by the user."""
SHOWN = 5
"""Problems of one case that are named; further ones are counted."""
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s;,:'\"/]+/)+")
"""Folders of an absolute path, not those of an address."""
LONGEST = 1000
"""Letters of a message."""


class Guard:
    """Middleware that answers requests which a page of another site could have caused, and counts what is received.

    A page of another site can reach a server of this machine through the browser of its user. Two checks prevent it:
    the name in `Host` must be one of this server's (or a number, to which no foreign name can be bound), and a `POST`
    must come from the server's own page or from no page at all.

    Args:
        app: what answers the other requests.
        hosts: names of this server, besides `localhost` and numbers.
        most_bytes: of a request's body, counted while it is received.
        describe: gives a line and a status for an error of the application, which is then answered without a traceback.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        most_bytes: int,
        describe: Callable[[Exception], tuple[str, int]],
    ) -> None:
        self.app, self.hosts, self.most_bytes = app, {name.lower() for name in hosts}, most_bytes
        self.describe = describe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answered = _with_headers(send)
        headers = Headers(scope=scope)
        try:
            check_host(headers.get("host"), self.hosts)
            if scope["method"] not in ("GET", "HEAD"):
                check_origin(headers)
            self._check_length(headers.get("content-length"))
        except RequestError as refusal:
            response = JSONResponse({"error": str(refusal)}, refusal.status, {"connection": "close"})
            await response(scope, receive, answered)
            return
        await self._call(scope, self._count(receive), answered)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and answer its errors unless an answer has begun."""
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            if begun:
                raise
            text, status = self.describe(error)
            await JSONResponse({"error": text}, status)(scope, receive, send)

    def _check_length(self, text: str | None) -> None:
        if text is not None and text.isdecimal() and int(text) > self.most_bytes:
            raise self._too_large(f"the request announces {format_bytes(int(text))}")

    def _count(self, receive: Receive) -> Receive:
        """The messages of a request, until its body is too large, whatever its headers announce."""
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most_bytes:
                raise self._too_large("the request is larger than allowed")
            return message

        return count

    def _too_large(self, found: str) -> RequestError:
        return RequestError(
            f"{found}; this server takes up to {format_bytes(self.most_bytes)} at once; send a smaller case, or start "
            "the server with a larger --max-upload",
            status=TOO_LARGE,
        )


def check_host(host: str | None, hosts: Collection[str]) -> None:
    """Check the name by which a client reached the server.

    Args:
        host: the header `Host`, with or without a port.
        hosts: names that are accepted in small letters, besides `localhost` and numbers.

    Raises:
        RequestError: another name, as after DNS rebinding.

    Example:
        >>> check_host("127.0.0.1:8000", ())
        >>> check_host("evil.example", ())
        Traceback (most recent call last):
        seewhy.run.serving.guard.RequestError: Host 'evil.example' is not a name of this server; ...
    """
    text = (host or "").strip()
    try:
        name = (urlsplit(f"//{text}").hostname or "").lower()
    except ValueError:
        name = ""
    if name == "localhost" or name in hosts:
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise RequestError(
            f"Host {text[:100]!r} is not a name of this server; open it by its number, e.g. http://127.0.0.1, or start "
            "it with --allow-host and this name",
            status=MISDIRECTED,
        ) from None


def check_origin(headers: Headers) -> None:
    """Check that a request comes from the server's own page, or from no page.

    Raises:
        RequestError: a page of another site.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    own = urlsplit(origin).netloc.lower() == headers.get("host", "").lower() if origin and origin != "null" else False
    if (origin is not None and not own) or (site is not None and site not in SAFE_SITES):
        raise RequestError(
            f"this request comes from the page of another site ({(origin or site or '')[:100]}); use the page of this "
            "server, or a program",
            status=FORBIDDEN,
        )


def _with_headers(send: Send) -> Send:
    """Add the headers of every answer."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Any = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return answer


# -- errors for the client ------------------------------------------------------------------------------------


class RequestError(SeewhyError):
    """A request that is not answered.

    Args:
        message: what was found, what was expected, and what to do.
        status: of HTTP.
    """

    def __init__(self, message: str, *, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def format_problem(error: Exception, *, folder: Path) -> str:
    r"""Format the message of an error as one line, in which files have their names alone, without folders.

    Args:
        error: any error.
        folder: of the server's temporary files.

    Example:
        >>> format_problem(ValueError("/tmp/a/jobs/1/scan.nii is\n empty"), folder=Path("/tmp/a"))
        'scan.nii is empty'
    """
    problems = error.problems if isinstance(error, DataError) and len(error.problems) > 1 else [str(error)]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    text = " ".join("; ".join([*problems[:SHOWN], *more]).split())
    text = re.sub(rf"{re.escape(str(folder))}/(?:[^\s;,'\"]*/)?", "", text)
    text = FOLDERS.sub("", text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
