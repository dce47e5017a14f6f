"""Run the server: uvicorn with short timeouts, which ends at once on Ctrl-C."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from detector.web.app import create_app
from detector.web.label_studio import LabelStudioBackend
from detector.web.remote import RemoteSession
from detector.web.teacher import Teacher

HEADER_SECONDS = 10.0
MAX_CONNECTIONS = 64


def serve(
    session: RemoteSession,
    listener: socket.socket,
    host: str,
    allowed_hosts: Sequence[str] = (),
    root_path: str = "",
) -> None:
    """Serve the page of a session, see `serve_app`; allowed_hosts, root_path: see `app.create_app`."""
    serve_app(create_app(session, host, allowed_hosts=allowed_hosts, root_path=root_path), session, listener)


def serve_app(app: Starlette, session: RemoteSession | Teacher | LabelStudioBackend, listener: socket.socket) -> None:
    """Serve an application on a listening socket until a signal or a fault of its session ends it.

    The session is stopped in any case. Raises its fault, such as the ValueError of a model that cannot be read.
    """
    config = uvicorn.Config(
        app,
        http=_TimeoutProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=0,
    )
    try:
        _Server(config, session).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # uvicorn passes Ctrl-C on when it has ended
    finally:
        session.stop()
    if session.fault is not None:
        raise session.fault


class _Server(uvicorn.Server):
    """uvicorn's server, which also ends with the session."""

    def __init__(self, config: uvicorn.Config, session: RemoteSession | Teacher | LabelStudioBackend) -> None:
        super().__init__(config)
        self.session = session

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.session.stop()  # uvicorn would wait for a computation
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        return self.session.fault is not None or await super().on_tick(counter)


class _TimeoutProtocol(H11Protocol):
    """uvicorn's protocol, which waits at most `HEADER_SECONDS` for the headers of a request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _waits_for_headers(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if self._waits_for_headers():
            self._deadline = self._deadline or self.loop.call_later(HEADER_SECONDS, self._give_up)
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._waits_for_headers():
            self.transport.close()
