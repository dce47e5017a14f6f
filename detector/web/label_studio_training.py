"""Train on the annotations of Label Studio's projects, in the background and in a process of its own."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.images.decoding import START_LENGTH, image_format
from detector.runtime.files import replacing, write_json
from detector.web.label_studio_format import RectangleTag, image_of_task
from detector.web.label_studio_host import LabelStudioError, LabelStudioHost

KEPT_VERSIONS = 3
MAX_WAITING = 16
"""Projects that wait for their training."""
_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WebP": ".webp",
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tiff",
    "AVIF": ".avif",
    "HEIC": ".heic",
}
_log = logging.getLogger(__name__)


class Version(NamedTuple):
    """A trained model of a project, with its number from 1."""

    number: int
    model: Path


class _Request(NamedTuple):
    tag: RectangleTag
    tasks: Sequence[Any] | None


def train_command(data: Path, output: Path) -> list[str]:
    """Return the command that trains on a folder of Label Studio's JSON into the folder of a run."""
    command = [sys.executable, "-P", "-m", "detector", "train", str(data), "--format", "label-studio"]
    return [*command, "--output", str(output), "--overwrite"]


class ProjectTrainer:
    """Trains one project at a time; requests for a project that waits already are one training.

    folder: holds a folder for each project: images, tasks and, as version-N, the last `KEPT_VERSIONS` runs.
    command: see `train_command`.
    """

    def __init__(
        self, folder: Path, host: LabelStudioHost, command: Callable[[Path, Path], Sequence[str]] = train_command
    ) -> None:
        self._folder, self._host, self._command = folder, host, command
        self._changed = threading.Condition()
        self._waiting: dict[str, _Request] = {}
        self._running: str | None = None
        self._errors: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        threading.Thread(target=self._work, daemon=True).start()

    def request(self, project: str, tag: RectangleTag, tasks: Sequence[Any] | None = None) -> bool:
        """Train on the annotated tasks of a project soon; None: those that the host has by then.

        Returns False where too many projects wait.
        """
        with self._changed:
            if project not in self._waiting and len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting[project] = _Request(tag, tasks)
            self._changed.notify_all()
            return True

    def state(self, project: str) -> dict[str, Any]:
        """Return whether a project trains or waits, the number of its version, and the error of its last training."""
        with self._changed:
            newest = self.newest(project)
            return {
                "training": project == self._running or project in self._waiting,
                "version": newest.number if newest else 0,
                "error": self._errors.get(project),
            }

    def projects(self) -> dict[str, dict[str, Any]]:
        """Return the `state` of each project that was trained, or asked for."""
        with self._changed:
            found = {*self._waiting, *self._errors, *([self._running] if self._running else [])}
            found |= {each.name for each in self._folder.glob("[0-9]*") if each.is_dir()}
        return {project: self.state(project) for project in sorted(found, key=int)}

    def newest(self, project: str) -> Version | None:
        """Return the newest model of a project, if there is one."""
        return max(self._versions(project), default=None)

    def _versions(self, project: str) -> list[Version]:
        found = []
        for folder in (self._folder / project).glob("version-*"):
            if re.fullmatch(r"version-[1-9]\d{0,8}", folder.name, re.ASCII):
                found.append(Version(int(folder.name.removeprefix("version-")), folder / "model.safetensors"))
        return [each for each in found if each.model.is_file()]

    def stop(self) -> None:
        """End the training that runs. The next one of its project resumes it, if its annotations are the same."""
        with self._changed:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or bool(self._waiting))
                if self._stopped:
                    return
                project = next(iter(self._waiting))
                request = self._waiting.pop(project)
                self._running = project
            error = None
            try:
                self._train(project, request)
            except (ValueError, OSError, LabelStudioError) as caught:
                error = " ".join(str(caught).split())
            except Exception as caught:  # the next project must be trained
                _log.exception("error while training project %s", project)
                error = f"{type(caught).__name__} while training"
            with self._changed:
                self._running = None
                if error is None:
                    self._errors.pop(project, None)
                elif not self._stopped:
                    self._errors[project] = error
                    _log.warning("project %s was not trained: %s", project, error)

    def _train(self, project: str, request: _Request) -> None:
        tasks = self._host.annotated_tasks(project) if request.tasks is None else request.tasks
        folder = self._folder / project
        data, output = folder / "data", folder / "training"
        self._write_tasks(tasks, request.tag, data)
        self._run(self._command(data, output), folder / "training.log")
        earlier = self._versions(project)
        number = max(earlier).number + 1 if earlier else 1
        output.rename(folder / f"version-{number}")
        for old in sorted(earlier)[: max(0, len(earlier) + 1 - KEPT_VERSIONS)]:
            shutil.rmtree(old.model.parent)
        _log.info("project %s: version %d is trained", project, number)

    def _write_tasks(self, tasks: Sequence[Any], tag: RectangleTag, data: Path) -> None:
        """Write annotated tasks as JSON, and the images that are not there yet."""
        (data / "images").mkdir(parents=True, exist_ok=True)
        kept: list[dict[str, Any]] = []
        failed: list[str] = []
        for task in tasks:
            annotations = task.get("annotations") if isinstance(task, Mapping) else None
            if not isinstance(annotations, list) or not annotations:
                continue
            if self._stopped:
                raise LabelStudioError("the server ends")
            try:
                name = self._write_image(image_of_task(task, tag), data / "images")
            except (ValueError, LabelStudioError) as error:
                failed.append(str(error))
                continue
            kept.append({"id": len(kept) + 1, "data": {"image": f"images/{name}"}, "annotations": annotations})
        if failed:
            _log.warning("%d images are left out, such as: %s", len(failed), failed[0])
        if not kept:
            raise ValueError(failed[0] if failed else "the project has no annotated task: submit some annotations")
        write_json(data / "tasks.json", kept)

    def _write_image(self, address: str, images: Path) -> str:
        """Return the name of the file of an image, which is fetched where it is missing."""
        stem = hashlib.sha256(self._host.resolve(address).encode()).hexdigest()[:16]
        for suffix in _SUFFIXES.values():
            if (images / f"{stem}{suffix}").is_file():
                return f"{stem}{suffix}"
        content = self._host.image(address)
        kind = image_format(content[:START_LENGTH])
        if kind is None:
            raise ValueError(f"{address[:200]!r} is not an image")
        with replacing(images / f"{stem}{_SUFFIXES[kind]}") as path:
            path.write_bytes(content)
        return f"{stem}{_SUFFIXES[kind]}"

    def _run(self, command: Sequence[str], log: Path) -> None:
        """Run a training. Raises ValueError, with the last line that it printed, where it fails."""
        with log.open("wb") as file:
            with self._changed:
                if self._stopped:
                    raise LabelStudioError("the server ends")
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            code = self._process.wait()
        with self._changed:
            self._process = None
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ValueError(lines[-1].removeprefix("error: ")[:500] if lines else f"training ended with status {code}")
