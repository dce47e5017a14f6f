"""Label with the real Label Studio and our suggestions: python -m dev.label_studio FOLDER.

Installs Label Studio into FOLDER (0.8 GB), starts it and `spp serve --label-studio`, and connects them. Takes
suggestions for the images of data/demo, submits their annotations, waits for the training that these start, and takes
suggestions of the new model. Ends with an error where one of these fails. Both programs keep to FOLDER and to this
machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from detector.datasets.dataset import Dataset
from detector.datasets.loading import load_voc
from detector.images.files import image_size

VERSION = "1.23.2"
ROOT = Path(__file__).parents[1]
USER, TOKEN = "person@example.com", "0123456789abcdef0123456789abcdef01234567"
STUDIO, BACKEND = "http://localhost:8089", "http://localhost:8088"
SECONDS = 600.0
"""Longest time of a start, a request or a training."""


def main() -> None:
    """Go through all steps, and print what each gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder for Label Studio and its data; an installation stays")
    folder = parser.parse_args().folder.resolve()
    images = load_voc(ROOT / "data" / "demo", "train", class_names=None)
    with ExitStack() as stack:
        stack.enter_context(label_studio(folder))
        token = folder / "token"
        token.write_text(TOKEN, encoding="utf-8")
        serve = ["serve", "--port", "8088", "--label-studio", STUDIO, "--label-studio-token", token]
        stack.enter_context(process([sys.executable, "-m", "detector", *serve], folder, {"PYTHONPATH": str(ROOT)}))
        wait_until(lambda: httpx2.get(f"{BACKEND}/health").status_code == 200, "spp serve answers")
        headers = {"Authorization": f"Token {TOKEN}"}
        with httpx2.Client(base_url=STUDIO, headers=headers, timeout=SECONDS) as studio:
            label(studio, images)


@contextmanager
def label_studio(folder: Path) -> Iterator[None]:
    """Install Label Studio into a folder where it is missing, and run it inside."""
    program = folder / "venv" / "bin" / "label-studio"
    if not program.is_file():
        uv = [Path(sys.executable).with_name("uv")]
        subprocess.run([*uv, "venv", "--python", sys.executable, folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        subprocess.run([*uv, "pip", "install", "--python", python, f"label-studio=={VERSION}"], check=True)
    settings = {
        "HOME": str(folder),
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        # models and webhooks on this machine
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    user = ["--username", USER, "--password", TOKEN, "--user-token", TOKEN, "--enable-legacy-api-token"]
    with process([program, "start", "--no-browser", "--port", STUDIO.rpartition(":")[2], *user], folder, settings):
        wait_until(lambda: httpx2.get(f"{STUDIO}/health").status_code == 200, "Label Studio answers")
        yield


@contextmanager
def process(command: Sequence[str | Path], folder: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Run a program in a folder, with its output in a log there; end it afterwards."""
    path = folder / f"{Path(command[0]).name}.log"
    with path.open("wb") as log:
        running = subprocess.Popen(command, cwd=folder, env=os.environ | settings, stdout=log, stderr=log)
        try:
            yield
        finally:
            running.terminate()
            running.wait()


def wait_until(condition: Callable[[], Any], name: str) -> None:
    """Ask once a second until a condition holds. Raises TimeoutError after `SECONDS`."""
    start = time.monotonic()
    while time.monotonic() - start < SECONDS:
        with suppress(httpx2.TransportError):
            if condition():
                print(f"{name}: after {time.monotonic() - start:.0f} s", flush=True)
                return
        time.sleep(1)
    raise TimeoutError(f"{name}: not within {SECONDS:.0f} s")


def label(studio: httpx2.Client, images: Dataset) -> None:
    """Import images into a new project with our model, and label them. Raises ValueError where something is missing."""
    labels = "".join(f'<Label value="{name}"/>' for name in images.class_names)
    rectangles = f'<RectangleLabels name="label" toName="image">{labels}</RectangleLabels>'
    config = f'<View><Image name="image" value="$image"/>{rectangles}</View>'
    project = ask(studio, "/api/projects", {"title": "demo", "label_config": config})["id"]
    backend = ask(studio, "/api/ml", {"project": project, "url": BACKEND, "title": "SPP-net"})
    if backend["state"] != "CO":
        raise ValueError(f"Label Studio cannot connect the model: {backend}")
    tasks = []
    for each in images:
        files = {"file": (each.path.name, each.path.read_bytes())}
        answer = studio.post(f"/api/projects/{project}/import?return_task_ids=1", files=files).raise_for_status()
        tasks += answer.json()["task_ids"]
    first = suggestions(studio, project, tasks)
    for task, each in zip(tasks, images, strict=True):
        height, width = image_size(each.path)
        results = [
            {
                "from_name": "label",
                "to_name": "image",
                "type": "rectanglelabels",
                "original_width": width,
                "original_height": height,
                "value": {
                    "x": 100 * x1 / width,
                    "y": 100 * y1 / height,
                    "width": 100 * (x2 - x1) / width,
                    "height": 100 * (y2 - y1) / height,
                    "rotation": 0,
                    "rectanglelabels": [images.class_names[class_id]],
                },
            }
            for (x1, y1, x2, y2), class_id in zip(each.boxes.tolist(), each.labels.tolist(), strict=True)
        ]
        ask(studio, f"/api/tasks/{task}/annotations", {"result": results})
    state = f"project {project} is trained"
    wait_until(lambda: not httpx2.get(f"{BACKEND}/health").json()["projects"][str(project)]["training"], state)
    new = suggestions(studio, project, tasks)
    if not set(new) - set(first):
        raise ValueError("the training gave no new model: see the logs")


def suggestions(studio: httpx2.Client, project: int, tasks: Sequence[int]) -> dict[str, int]:
    """Retrieve predictions of all tasks; return the number of boxes by model version, and print it."""
    everything = {"selectedItems": {"all": True, "excluded": []}}
    ask(studio, f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", everything)
    found: dict[str, int] = {}
    for task in tasks:
        for each in studio.get(f"/api/predictions?task={task}").raise_for_status().json():
            found[each["model_version"]] = found.get(each["model_version"], 0) + len(each["result"])
    print(", ".join(f"{version}: {count} boxes in {len(tasks)} images" for version, count in found.items()), flush=True)
    if not found:
        raise ValueError("Label Studio has no predictions: see the logs")
    return found


def ask(studio: httpx2.Client, path: str, content: Any) -> Any:
    """Send JSON and return the JSON answer. Raises HTTPStatusError for another status than success."""
    return studio.post(path, json=content).raise_for_status().json()


if __name__ == "__main__":
    main()
