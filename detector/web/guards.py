"""Guard the detector: check hosts and origins, set security headers, and bound the queue and the waiting."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 20_000_000
MAX_REQUESTS = 16
"""Requests that are read, wait or are computed at a time; they bound the memory of bodies."""
BODY_SECONDS = 30.0

Result = TypeVar("Result")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach a server that is bound to ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def trusted_hosts(host: str) -> list[str]:
    """Return the Host headers that a server bound to ``host`` accepts.

    Another site can point a name of its own to this machine; the browser then sends that name.
    """
    names = {"localhost", "127.0.0.1", "::1", host}
    if not is_loopback(host):
        machine = socket.gethostname()
        names |= {machine, f"{machine}.local", socket.getfqdn(), *_addresses(machine)}
    return sorted(f"[{name}]" if ":" in name else name for name in names)


def _addresses(machine: str) -> set[str]:
    """Return the addresses of this machine: those of its name, and that of its default route; nothing is sent."""
    found = set()
    with suppress(OSError):
        found |= {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(machine, None)}
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # reserved for documentation
        found.add(str(probe.getsockname()[0]))
    return found


class OwnOriginOnly:
    """Refuse requests of pages of other origins with 403, and set security headers on every answer.

    Behind a proxy that sends another Host, pages of ``allowed_hosts`` are its own, too.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str] = ()) -> None:
        self.app, self._allowed_hosts = app, allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        if not self._is_own(headers.get("origin"), headers.get("host", "")):
            refusal = PlainTextResponse("requests from other sites are refused\n", 403)
            await refusal(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _is_own(self, origin: str | None, host: str) -> bool:
        if origin is None:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        return parts.netloc.lower() == host.lower() or any(_matches(name, each) for each in self._allowed_hosts)


def _matches(name: str, pattern: str) -> bool:
    """Return whether a host name is a pattern, such as "example.org" or "*.example.org"."""
    own = pattern.strip("[]").lower()
    return name.endswith(own[1:]) if own.startswith("*.") else name == own


class BelowPath:
    """Serve an application below a path, whether or not a proxy removes it from requests."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self._root_path = app, root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._root_path:
            if scope["path"] == self._root_path:
                await RedirectResponse(f"{self._root_path}/")(scope, receive, send)
                return
            # the router removes it from paths that begin with it
            scope = {**scope, "root_path": self._root_path}
        await self.app(scope, receive, send)


class Queue:
    """Run one computation at a time and let few requests wait; further ones get a 503."""

    def __init__(self, max_requests: int = MAX_REQUESTS, body_seconds: float = BODY_SECONDS) -> None:
        self._max_requests, self._body_seconds = max_requests, body_seconds
        self._n_requests = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read the body. Raises HTTPException for too many requests, or a client that is too slow."""
        if self._n_requests >= self._max_requests:
            raise HTTPException(503, "too many images are waiting: try again in a few seconds", {"Retry-After": "3"})
        self._n_requests += 1
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await request.body()
            yield body
        except TimeoutError:
            raise HTTPException(408, f"the image did not arrive within {self._body_seconds:g} seconds") from None
        finally:
            self._n_requests -= 1

    async def run(self, request: Request, function: Callable[[], Result]) -> Result:
        """Call a blocking function in a thread, in turn, if the client is still connected."""
        async with self._turn:
            if await request.is_disconnected():
                raise ClientDisconnect
            return await to_thread.run_sync(function)
