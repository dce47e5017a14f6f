"""Serve the page and its JSON API as a Starlette application; see docs/web.md."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from detector.parallel.map_images import one_line
from detector.tiles import AUTO, Tiles, parse_tiles
from detector.web.bodies import image_of
from detector.web.guards import MAX_BODY_BYTES, BelowPath, OwnOriginOnly, Queue, trusted_hosts
from detector.web.label_studio_host import LabelStudioError
from detector.web.openapi import MAX_DETECTIONS, MAX_PROPOSALS, MAX_TILES, MIN_TILE_SIDE, describe_api
from detector.web.remote import RemoteSession, SessionFaultError, SessionLostError

if TYPE_CHECKING:
    from detector.web.session import Session

STATIC = Path(__file__).parent / "static"
_LIMITS = {"min_score": (-math.inf, math.inf), "min_probability": (0.0, 1.0), "precision": (0.01, 0.99)}
"""Options that limit detections, with the numbers that they take."""

_log = logging.getLogger(__name__)


def create_app(
    session: Session | RemoteSession,
    host: str = "127.0.0.1",
    queue: Queue | None = None,
    *,
    allowed_hosts: Sequence[str] = (),
    root_path: str = "",
) -> Starlette:
    """Create the application of a session.

    host: the address that it will be bound to.
    allowed_hosts: other names by which browsers and proxies may call it.
    root_path: the path below which a proxy serves it, whether or not the proxy removes it from requests.
    """
    return guarded_app(page_routes(session, queue or Queue()), host, allowed_hosts, root_path)


def page_routes(session: Session | RemoteSession, queue: Queue, label_studio: bool = False) -> list[Route]:
    """Return the routes of the page's API; ``label_studio``: whether its description names those of Label Studio."""
    api = _Api(session, queue)
    description = describe_api(label_studio)
    return [
        Route("/health", api.health),
        Route("/detect", api.detect, methods=["POST"]),
        Route("/explain", api.explain, methods=["POST"]),
        Route("/search", api.search, methods=["POST"]),
        Route("/render", api.render, methods=["POST"]),
        Route("/openapi.json", lambda request: JSONResponse(description)),
    ]


def guarded_app(routes: Sequence[Route], host: str, allowed_hosts: Sequence[str], root_path: str) -> Starlette:
    """Create an application of routes and the static files, with all guards; errors are lines of text."""
    return Starlette(
        routes=[*routes, Mount("/", StaticFiles(directory=STATIC, html=True))],
        middleware=[
            Middleware(BelowPath, root_path=root_path),
            Middleware(OwnOriginOnly, allowed_hosts=allowed_hosts),
            Middleware(TrustedHostMiddleware, allowed_hosts=[*trusted_hosts(host), *allowed_hosts], www_redirect=False),
        ],
        exception_handlers={
            HTTPException: _in_one_line,
            ValueError: _refused,
            SessionLostError: _lost,
            SessionFaultError: _fault,
            LabelStudioError: _no_gateway,
            ClientDisconnect: _gone,
            FileNotFoundError: _missing,
            OSError: _unwritable,
        },
        max_body_size=MAX_BODY_BYTES,
    )


class _Api:
    """The endpoints. Each body holds an image file; see `bodies.image_of`."""

    def __init__(self, session: Session | RemoteSession, queue: Queue) -> None:
        self.session, self.queue = session, queue

    async def health(self, request: Request) -> Response:
        return JSONResponse(self.session.status())

    async def detect(self, request: Request) -> Response:
        query = Query(request, {"name", "max_detections", "proposals", "tiles", *_LIMITS})
        method = partial(
            self.session.detect,
            name=query.text("name", ""),
            max_detections=query.count("max_detections", None, 1, MAX_DETECTIONS),
            proposals=query.count("proposals", 0, 0, MAX_PROPOSALS) or 0,
            tiles=query.tiles(),
            **query.limits(),
        )
        return JSONResponse(await self._answer(request, method))

    async def explain(self, request: Request) -> Response:
        query = Query(request, {"box", "class", "tiles", *_LIMITS})
        method = partial(
            self.session.explain,
            box=query.box("box"),
            label=query.text("class"),
            tiles=query.tiles(),
            **query.limits(),
        )
        return JSONResponse(await self._answer(request, method))

    async def search(self, request: Request) -> Response:
        Query(request, set())
        return JSONResponse(await self._answer(request, self.session.search))

    async def render(self, request: Request) -> Response:
        Query(request, set())
        return Response(await self._answer(request, self.session.render), media_type="image/png")

    async def _answer(self, request: Request, method: Callable[[bytes], Any]) -> Any:
        async with self.queue.body(request) as body:
            image = image_of(body, request.headers.get("content-type", ""))
            return await self.queue.run(request, partial(method, image))


class Query:
    """Options in the URL of a request. Raises ValueError for unknown, missing, invalid and repeated ones."""

    def __init__(self, request: Request, known: set[str]) -> None:
        self.values = request.query_params
        for name in self.values:
            if name not in known:
                raise ValueError(f"unknown option {name!r}: there are {', '.join(sorted(known)) or 'none'}")
            if len(self.values.getlist(name)) > 1:
                raise ValueError(f"option {name!r} is given more than once")

    def text(self, name: str, default: str | None = None) -> str:
        value = self.values.get(name, default)
        if value is None:
            raise ValueError(f"option {name!r} is missing")
        return value

    def limits(self) -> dict[str, Any]:
        """Return the limits given; a session takes at most one."""
        return {name: self.number(name, *bounds) for name, bounds in _LIMITS.items() if name in self.values}

    def tiles(self) -> Tiles | None:
        """Return the tiles given, if any; of a request, there are limits to their number."""
        text = self.values.get("tiles")
        try:
            tiles = None if text is None else parse_tiles(text)
        except ValueError as error:
            raise ValueError(f"tiles {error}") from None
        if isinstance(tiles, int) and tiles > MAX_TILES:
            raise ValueError(f"tiles must be at most {MAX_TILES}, but are {tiles}")
        if isinstance(tiles, str) and tiles != AUTO and min(map(int, tiles.split("x"))) < MIN_TILE_SIDE:
            raise ValueError(f"tiles must have sides of at least {MIN_TILE_SIDE} pixels, but are {tiles}")
        return tiles

    def number(self, name: str, low: float, high: float) -> float:
        try:
            value = float(self.values[name])
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not low <= value <= high:
            expected = "a number" if math.isinf(low) else f"a number of {low:g} to {high:g}"
            raise ValueError(f"{name} must be {expected}, but is {self.values[name]!r}")
        return value

    def count(self, name: str, default: int | None, low: int, high: int) -> int | None:
        text = self.values.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 9 and low <= int(text) <= high):
            raise ValueError(f"{name} must be a whole number of {low} to {high}, but is {text!r}")
        return int(text)

    def box(self, name: str) -> list[float]:
        text = self.text(name)
        try:
            corners = [float(corner) for corner in text.split(",")]
        except ValueError:
            corners = []
        if len(corners) != 4 or not all(map(math.isfinite, corners)):
            raise ValueError(f"{name} must be x1,y1,x2,y2, but is {text!r}")
        return corners


def _line(message: str, status: int, headers: Any = None) -> Response:
    return PlainTextResponse(" ".join(message.split()) + "\n", status, headers)


def _in_one_line(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _line(error.detail, error.status_code, error.headers)


def _refused(request: Request, error: Exception) -> Response:
    return _line(str(error), 400)


def _lost(request: Request, error: Exception) -> Response:
    return _line(str(error), 503, {"Retry-After": "5"})


def _fault(request: Request, error: Exception) -> Response:
    return _line(str(error), 500)


def _no_gateway(request: Request, error: Exception) -> Response:
    return _line(str(error), 502)


def _gone(request: Request, error: Exception) -> Response:
    return _line("the client has disconnected", 400)


def _missing(request: Request, error: Exception) -> Response:
    return _line(one_line(error), 404)


def _unwritable(request: Request, error: Exception) -> Response:
    return _line(f"nothing was saved: {one_line(error)}", 507)
