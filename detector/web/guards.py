"""What stands between the network and the detector: hosts, origins, headers, a bounded queue, patience with limits."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 20_000_000
PLACES = 16
"""Requests that are read, wait or are computed at a time: they bound the memory that bodies take."""
BODY_SECONDS = 30.0

Result = TypeVar("Result")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}


def is_loopback(host: str) -> bool:
    """Whether a server that is bound to ``host`` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def trusted_hosts(host: str) -> list[str]:
    """Names by which a page that is bound to ``host`` may be called.

    A page of another site can have a name of its own lead to this machine; its browser then sends that name.
    """
    names = {"localhost", "127.0.0.1", "::1", host}
    if not is_loopback(host):
        machine = socket.gethostname()
        names |= {machine, f"{machine}.local", socket.getfqdn(), *_addresses(machine)}
    return sorted(f"[{name}]" if ":" in name else name for name in names)


def _addresses(machine: str) -> set[str]:
    """Addresses of this machine: those of its name, and that on its way to others; nothing is sent."""
    found = set()
    with suppress(OSError):
        found |= {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(machine, None)}
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address for documentation
        found.add(str(probe.getsockname()[0]))
    return found


class OwnOriginOnly:
    """403 for requests that a page of another origin sends, and security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            refusal = PlainTextResponse("requests from other sites are refused\n", 403)
            await refusal(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)


class Queue:
    """One computation at a time and few that wait: whoever comes when all places are taken gets a 503."""

    def __init__(self, places: int = PLACES, body_seconds: float = BODY_SECONDS) -> None:
        self._places, self._body_seconds = places, body_seconds
        self._taken = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Take a place and read the body; HTTPException where there is no place, or the client is too slow."""
        if self._taken >= self._places:
            raise HTTPException(503, "too many images are waiting: try again in a few seconds", {"Retry-After": "3"})
        self._taken += 1
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await request.body()
            yield body
        except TimeoutError:
            raise HTTPException(408, f"the image did not arrive within {self._body_seconds:g} seconds") from None
        finally:
            self._taken -= 1

    async def run(self, request: Request, function: Callable[[], Result]) -> Result:
        """Call a blocking function in a thread, when it is its turn and if the client is still there."""
        async with self._turn:
            if await request.is_disconnected():
                raise ClientDisconnect
            return await to_thread.run_sync(function)
