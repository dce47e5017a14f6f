"""Serve a detector to Label Studio, by the protocol of its ML backends; see docs/labeling_tools.md."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from detector.web.app import guarded_app, page_routes
from detector.web.guards import Queue
from detector.web.label_studio_format import image_of_task, parse_label_config, prediction_of, project_of
from detector.web.label_studio_host import LabelStudioError, LabelStudioHost
from detector.web.label_studio_training import ProjectTrainer, Version
from detector.web.remote import RemoteSession

if TYPE_CHECKING:
    from detector.web.session import Answer, Session

MAX_TASKS = 1000
KEPT_SESSIONS = 2
"""Projects whose own models stay loaded."""
_TRAINING_EVENTS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "START_TRAINING")
_log = logging.getLogger(__name__)


class LabelStudioBackend:
    """The models behind Label Studio: one for all projects, and that of each project after its first training.

    session: of the model for all projects. model_version: its name. load: creates the session of a model file in a
    child process; must be picklable.
    """

    def __init__(
        self,
        session: RemoteSession,
        model_version: str,
        load: Callable[[Path], Session],
        host: LabelStudioHost,
        trainer: ProjectTrainer,
    ) -> None:
        self.session, self.model_version = session, model_version
        self.host, self.trainer = host, trainer
        self._load = load
        self._sessions: OrderedDict[str, tuple[str, RemoteSession]] = OrderedDict()

    @property
    def fault(self) -> Exception | None:
        """The error of a model for all projects that could not be loaded."""
        return self.session.fault

    def stop(self) -> None:
        """End all processes."""
        self.trainer.stop()
        for _, session in list(self._sessions.values()):
            session.stop()
        self.session.stop()

    def version_of(self, project: str) -> str:
        """Return the name of the model that predicts for a project."""
        return self._name(project, self.trainer.newest(project))

    def _name(self, project: str, version: Version | None) -> str:
        return self.model_version if version is None else f"project-{project}-version-{version.number}"

    def detect(self, project: str, image: bytes) -> tuple[Answer, str]:
        """Detect by the newest model of a project; return the answer, and the name of the model. One call at a time."""
        newest = self.trainer.newest(project)
        version = self._name(project, newest)
        if newest is None:
            return self.session.detect(image), version
        kept = self._sessions.pop(project, None)
        if kept is not None and (kept[0] != version or kept[1].fault is not None):
            kept[1].stop()
            kept = None
        self._sessions[project] = kept or (version, RemoteSession(partial(self._load, newest.model)))
        while len(self._sessions) > KEPT_SESSIONS:
            self._sessions.popitem(last=False)[1][1].stop()
        return self._sessions[project][1].detect(image), version


def create_label_studio_app(
    backend: LabelStudioBackend, host: str = "127.0.0.1", *, allowed_hosts: Sequence[str] = (), root_path: str = ""
) -> Starlette:
    """Create the application of a backend, with the page of its model; parameters as those of `create_app`."""
    queue = Queue()
    api = _LabelStudioApi(backend, queue)
    routes = [
        Route("/health", api.health),
        Route("/setup", api.setup, methods=["POST"]),
        Route("/predict", api.predict, methods=["POST"]),
        Route("/train", api.train, methods=["POST"]),
        Route("/webhook", api.webhook, methods=["POST"]),
        *page_routes(backend.session, queue, label_studio=True),
    ]
    return guarded_app(routes, host, allowed_hosts, root_path)


class _LabelStudioApi:
    """The endpoints. Each body is a JSON object of Label Studio."""

    def __init__(self, backend: LabelStudioBackend, queue: Queue) -> None:
        self.backend, self.queue = backend, queue

    async def health(self, request: Request) -> Response:
        status = self.backend.session.status()
        projects = await to_thread.run_sync(self.backend.trainer.projects)
        own = {"status": "UP", "state": status["status"], "model_class": "SPP-net"}
        return JSONResponse({**status, **own, "model_version": self.backend.model_version, "projects": projects})

    async def setup(self, request: Request) -> Response:
        content = await self._content(request)
        project = project_of(content.get("project"))
        parse_label_config(content.get("schema"))
        return JSONResponse({"model_version": await to_thread.run_sync(self.backend.version_of, project)})

    async def predict(self, request: Request) -> Response:
        async with self.queue.body(request) as body:
            content = _object(body)
            project, tag = project_of(content.get("project")), parse_label_config(content.get("label_config"))
            tasks = content.get("tasks")
            if not isinstance(tasks, list) or not 1 <= len(tasks) <= MAX_TASKS:
                raise ValueError(f"tasks must be a list of 1 to {MAX_TASKS} tasks")
            version, results = await to_thread.run_sync(self.backend.version_of, project), []
            errors: list[Exception] = []
            for task in tasks:
                try:
                    image = await to_thread.run_sync(self.backend.host.image, image_of_task(task, tag))
                    detect = partial(self.backend.detect, project, image)
                    answer, version = await self.queue.run(request, detect)
                    results.append(prediction_of(answer, tag, version))
                except (ValueError, LabelStudioError) as error:
                    errors.append(error)
                    _log.warning("no prediction: %s", error)
                    results.append({"result": [], "score": 0.0, "model_version": version, "error": str(error)})
        if len(errors) == len(tasks):  # Label Studio would keep empty predictions, and not ask again
            raise errors[0]
        return JSONResponse({"results": results, "model_version": version})

    async def train(self, request: Request) -> Response:
        content = await self._content(request)
        tasks = content.get("annotations")
        if tasks is not None and not isinstance(tasks, list):
            raise ValueError("annotations must be a list of tasks")
        return JSONResponse(self._request(content.get("project"), content.get("label_config"), tasks or None), 201)

    async def webhook(self, request: Request) -> Response:
        content = await self._content(request)
        if content.get("action") not in _TRAINING_EVENTS:
            return JSONResponse({"status": "ignored"})
        project = content.get("project")
        config = project.get("label_config") if isinstance(project, Mapping) else None
        return JSONResponse(self._request(project, config, None), 201)

    def _request(self, project: object, label_config: object, tasks: list[Any] | None) -> dict[str, Any]:
        number, tag = project_of(project), parse_label_config(label_config)
        if not self.backend.trainer.request(number, tag, tasks):
            raise HTTPException(503, "too many projects wait for their training: try again later")
        return {"status": "ok", "job": f"project-{number}"}

    async def _content(self, request: Request) -> dict[str, Any]:
        async with self.queue.body(request) as body:
            return _object(body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(content, dict):
        raise ValueError("the body must be a JSON object")
    return content
