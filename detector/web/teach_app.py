"""Serve the page that teaches a detector, and its JSON API; see docs/teach.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from detector.images.decoding import START_LENGTH, image_format
from detector.images.files import DEFAULT_MAX_PIXELS, read_image
from detector.teaching.exporting import EXPORTS, export_project, import_labels
from detector.teaching.labels import check_corners, check_labels
from detector.web.app import STATIC, Query, guarded_app
from detector.web.guards import Queue
from detector.web.teacher import Teacher

MAX_LABEL_BYTES = 1_000_000
THUMBNAIL_SIDE = 160
_MAX_THUMBNAILS = 1000
_MAX_SIDE = 2560  # of an image that is converted for the browser
_SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "WebP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"}


def create_teach_app(
    teacher: Teacher, host: str = "127.0.0.1", *, allowed_hosts: Sequence[str] = (), root_path: str = ""
) -> Starlette:
    """Create the application of a project; parameters as those of `create_app`."""
    api = _TeachApi(teacher)
    routes = [
        Route("/", lambda request: FileResponse(STATIC / "teach.html")),
        Route("/health", api.health),
        Route("/teach/project", api.project),
        Route("/teach/state", api.state),
        Route("/teach/image", api.image),
        Route("/teach/labels", api.labels),
        Route("/teach/labels", api.set_labels, methods=["PUT"]),
        Route("/teach/proposals", api.proposals),
        Route("/teach/look", api.look, methods=["POST"]),
        Route("/teach/similar", api.similar, methods=["POST"]),
        Route("/teach/rename", api.rename, methods=["POST"]),
        Route("/teach/export", api.export, methods=["POST"]),
        Route("/teach/import", api.import_, methods=["POST"]),
    ]
    return guarded_app(routes, host, allowed_hosts, root_path)


class _TeachApi:
    """The endpoints. Images go by their number in the answer of ``/teach/project``."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher, self.project_ = teacher, teacher.project
        self._queue = Queue()
        self._thumbnails: dict[int, bytes] = {}

    async def health(self, request: Request) -> Response:
        state = self.teacher.state(None)
        return JSONResponse({"status": state["state"], "class_names": list(self.project_.class_names)})

    async def project(self, request: Request) -> Response:
        Query(request, set())
        return JSONResponse(await to_thread.run_sync(self._project))

    def _project(self) -> dict[str, Any]:
        images = []
        for number, each in enumerate(self.project_.images):
            labels = self.project_.labels(number)
            images.append({"name": each.name, "boxes": len(labels.boxes), "done": labels.done})
        names = {"photos": self.project_.photos.resolve().name, "folder": str(self.project_.folder)}
        return {**names, "images": images, "class_names": list(self.project_.class_names), "exports": [*EXPORTS]}

    async def state(self, request: Request) -> Response:
        query = Query(request, {"image"})
        return JSONResponse(self.teacher.state(self._number(query) if "image" in query.values else None))

    async def image(self, request: Request) -> Response:
        query = Query(request, {"image", "thumbnail"})
        number = self._number(query)
        if query.values.get("thumbnail") is not None:
            return Response(await self._once(request, partial(self._thumbnail, number)), media_type="image/jpeg")
        await to_thread.run_sync(self.project_.size, number)
        path = self.project_.images[number].path
        with path.open("rb") as file:
            shown = _SHOWN.get(image_format(file.read(START_LENGTH)) or "")
        if shown is not None:
            return FileResponse(path, media_type=shown)
        content = await self._once(request, lambda: _encoded(read_image(path), _MAX_SIDE, ".png"))
        return Response(content, media_type="image/png")

    def _thumbnail(self, number: int) -> bytes:
        if number not in self._thumbnails:
            while len(self._thumbnails) >= _MAX_THUMBNAILS:
                self._thumbnails.pop(next(iter(self._thumbnails)))
            image = read_image(self.project_.images[number].path, max_pixels=DEFAULT_MAX_PIXELS)
            self._thumbnails[number] = _encoded(image, THUMBNAIL_SIDE, ".jpg")
        return self._thumbnails[number]

    async def labels(self, request: Request) -> Response:
        number = self._number(Query(request, {"image"}))
        return JSONResponse(await to_thread.run_sync(self._labels, number))

    def _labels(self, number: int) -> dict[str, Any]:
        height, width = self.project_.size(number)
        labels = self.project_.labels(number)
        boxes = [{"label": each.class_name, "box": list(each.corners)} for each in labels.boxes]
        return {"width": width, "height": height, "boxes": boxes, "done": labels.done}

    async def set_labels(self, request: Request) -> Response:
        number = self._number(Query(request, {"image"}))
        content = _parsed(await self._body(request, MAX_LABEL_BYTES))
        return JSONResponse(await to_thread.run_sync(self._set_labels, number, content))

    def _set_labels(self, number: int, content: Any) -> dict[str, Any]:
        self.project_.set_labels(number, check_labels(content, self.project_.size(number)))
        self.teacher.send_labels()
        return {"class_names": list(self.project_.class_names)}

    async def proposals(self, request: Request) -> Response:
        number = self._number(Query(request, {"image"}))
        return JSONResponse({"boxes": self.teacher.proposals(number)})

    async def look(self, request: Request) -> Response:
        self.teacher.look(self._number(Query(request, {"image"})))
        return JSONResponse({})

    async def similar(self, request: Request) -> Response:
        query = Query(request, {"image", "box"})
        number = self._number(query)
        size = await to_thread.run_sync(self.project_.size, number)
        corners = check_corners(query.box("box"), size)
        return JSONResponse({"matches": await self._once(request, partial(self.teacher.similar, number, corners))})

    async def rename(self, request: Request) -> Response:
        query = Query(request, {"from", "to"})
        await to_thread.run_sync(self.project_.rename_class, query.text("from"), query.text("to"))
        await to_thread.run_sync(self.teacher.send_labels)
        return JSONResponse({"class_names": list(self.project_.class_names)})

    async def export(self, request: Request) -> Response:
        format_name = Query(request, {"format"}).text("format")
        if format_name not in EXPORTS:
            raise ValueError(f"format must be one of {', '.join(EXPORTS)}, but is {format_name!r}")
        export = partial(export_project, self.project_, format_name, self.teacher.write_learned)
        path = await self._once(request, export)
        return JSONResponse({"path": str(path), "line": f"written to {path}"})

    async def import_(self, request: Request) -> Response:
        name = Query(request, {"name"}).text("name")
        async with self._queue.body(request) as body:
            found = await self._queue.run(request, partial(import_labels, self.project_, name, body))
        await to_thread.run_sync(self.teacher.send_labels)
        return JSONResponse(found)

    def _number(self, query: Query) -> int:
        number = query.count("image", None, 0, len(self.project_.images) - 1)
        if number is None:
            raise ValueError("option 'image' is missing")
        return number

    async def _body(self, request: Request, limit: int) -> bytes:
        if int(request.headers.get("content-length") or 0) > limit:
            raise HTTPException(413, f"the body must have at most {limit} bytes")
        async with self._queue.body(request) as body:
            if len(body) > limit:
                raise HTTPException(413, f"the body must have at most {limit} bytes")
            return body

    async def _once(self, request: Request, function: Callable[[], Any]) -> Any:
        """Call a function that takes a while in a thread, one at a time."""
        return await self._queue.run(request, function)


def _encoded(image: Any, side: int, suffix: str) -> bytes:
    zoom = side / max(image.shape[:2])
    if zoom < 1:
        size = tuple(max(1, round(length * zoom)) for length in image.shape[1::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
