"""Who waits for the detector, who is sent away, and who loses a place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the page needs the extra [web]")
httpx = pytest.importorskip("httpx2", reason="tests of the page need the extra [web-test]")

from detector.web.app import create_app  # noqa: E402
from detector.web.guards import Queue  # noqa: E402
from tests.web.sessions import LightSession, in_one_line, light_session  # noqa: E402


class Blocking(LightSession):
    """Works until it is let go, and counts how many work at a time."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls = self.at_a_time = self.most = 0

    def detect(self, body: bytes, **options: Any) -> dict[str, Any]:
        self.calls += 1
        self.at_a_time += 1
        self.most = max(self.most, self.at_a_time)
        self.begun.set()
        assert self.go.wait(60)
        self.at_a_time -= 1
        return {"size": len(body)}


def client_of(session: Any, queue: Queue) -> Any:
    transport = httpx.ASGITransport(create_app(session, queue=queue))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000")


def test_one_image_at_a_time_few_wait_and_the_others_are_sent_away() -> None:
    async def ask() -> None:
        session = Blocking()
        async with client_of(session, Queue(max_requests=3)) as client:
            asked = [asyncio.create_task(client.post("/detect", content=b"x" * size)) for size in range(3)]
            await asyncio.to_thread(session.begun.wait, 60)
            refused = await client.post("/detect", content=b"too much")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "3"
            assert in_one_line(refused) == "too many images are waiting: try again in a few seconds"
            assert (await client.get("/health")).status_code == 200
            session.go.set()
            answers = await asyncio.gather(*asked)
            assert [answer.json()["size"] for answer in answers] == [0, 1, 2]
            assert session.most == 1
            assert (await client.post("/detect", content=b"again")).status_code == 200

    asyncio.run(ask())


def test_slow_clients_lose_their_place() -> None:
    async def forever() -> AsyncIterator[bytes]:
        yield b"the beginning"
        await asyncio.Event().wait()

    async def ask() -> None:
        async with client_of(light_session(), Queue(max_requests=1, body_seconds=0.05)) as client:
            response = await client.post("/detect", content=forever())
            assert response.status_code == 408
            assert in_one_line(response) == "the image did not arrive within 0.05 seconds"
            assert (await client.post("/detect", content=b"quick")).status_code == 200

    asyncio.run(ask())
