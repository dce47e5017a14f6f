"""Fetch images and annotations from one Label Studio server, and from nowhere else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from detector.web.guards import MAX_BODY_BYTES

MAX_EXPORT_BYTES = 500_000_000
_SECONDS, _IMAGE_SECONDS, _EXPORT_SECONDS = 10.0, 30.0, 300.0
_CHUNK = 1 << 16
_PORTS = {"http": 80, "https": 443}


class LabelStudioError(Exception):
    """Label Studio did not answer as it should; the message is one line."""


def parse_host(text: str) -> str:
    """Return the URL of a Label Studio server without its last slash. Raises ValueError for anything else."""
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in _PORTS or not parts.hostname or parts.username or parts.port == 0
    except ValueError:
        wrong = True
    if wrong or parts.query or parts.fragment or re.search(r"[\s\\]", text):
        raise ValueError(f"must be the URL of Label Studio, such as http://localhost:8080, but is {text!r}")
    return text.rstrip("/")


class LabelStudioHost:
    """One Label Studio server.

    url: see `parse_host`. token: of a user there, an access token or a personal access token; empty for none. It is
    sent to this server alone. Proxies of the environment are not used, and redirects stay on the server.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self._base = urlsplit(url)
        self._token = token
        self._bearer, self._renew_at = "", 0.0
        self._opener = build_opener(ProxyHandler({}), _OwnRedirects(self._check_origin))

    def image(self, address: str) -> bytes:
        """Return the file of a task's image: a URL of this server, or a path of it below /data/.

        Raises ValueError for another address, or a file of more than 20 MB, and LabelStudioError for a failed request.
        """
        return self._read(self.resolve(address), MAX_BODY_BYTES, _IMAGE_SECONDS)

    def annotated_tasks(self, project: str) -> list[Any]:
        """Return the annotated tasks of a project, as its JSON export has them."""
        url = f"{self.url}/api/projects/{project}/export?{urlencode({'exportType': 'JSON'})}"
        try:
            tasks = json.loads(self._read(url, MAX_EXPORT_BYTES, _EXPORT_SECONDS))
        except (ValueError, RecursionError) as error:
            raise LabelStudioError(f"the export of project {project} cannot be read: {error}") from None
        if not isinstance(tasks, list):
            raise LabelStudioError(f"the export of project {project} is no list of tasks")
        return tasks

    def resolve(self, address: str) -> str:
        """Return the URL of an address in a task. Raises ValueError for one that is not of this server."""
        shown = address[:200]
        if re.search(r"[\x00-\x20\x7f\\]", address):
            address = address.replace(" ", "%20")
            if re.search(r"[\x00-\x20\x7f\\]", address):
                raise ValueError(f"{shown!r} is no address of an image")
        if re.match(r"[A-Za-z][\w+.-]*:", address):
            url = address
        else:
            below = self._base.path + "/"
            rest = address.removeprefix(below) if address.startswith(below) else address.removeprefix("/")
            if address.startswith("//") or not rest.startswith(("data/upload/", "data/local-files/")):
                raise ValueError(f"{shown!r} is not below /data/upload/ or /data/local-files/ of {self.url}")
            url = f"{self.url}/{rest}"
        self._check_origin(url)
        if ".." in unquote(urlsplit(url).path).split("/"):
            raise ValueError(f"{shown!r} is no address of an image: it leaves its folder")
        return _ascii(url)

    def _check_origin(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            own = _origin(parts) == _origin(self._base) and parts.username is None
        except ValueError:
            own = False
        if not own:
            raise ValueError(f"{url[:200]!r} is not on {self.url}: images of other hosts are not fetched")

    def _authorization(self) -> dict[str, str]:
        """Return the header with the token; a personal access token, a JWT, is exchanged for one of a few minutes."""
        if not self._token:
            return {}
        if self._token.count(".") != 2:
            return {"Authorization": f"Token {self._token}"}
        if time.monotonic() >= self._renew_at:
            content = json.dumps({"refresh": self._token}).encode()
            headers = {"Content-Type": "application/json"}
            answer = self._send(Request(f"{self.url}/api/token/refresh", content, headers), 10**5, _IMAGE_SECONDS)
            try:
                self._bearer = str(json.loads(answer)["access"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise LabelStudioError(f"{self.url} did not accept the personal access token") from None
            self._renew_at = time.monotonic() + 120
        return {"Authorization": f"Bearer {self._bearer}"}

    def _read(self, url: str, max_bytes: int, seconds: float) -> bytes:
        return self._send(Request(url, headers=self._authorization()), max_bytes, seconds)

    def _send(self, request: Request, max_bytes: int, seconds: float) -> bytes:
        where = request.full_url.partition("?")[0][:200]
        deadline = time.monotonic() + seconds
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                content = bytearray()
                while chunk := response.read1(_CHUNK):
                    content += chunk
                    if len(content) > max_bytes:
                        raise ValueError(f"{where} has more than {max_bytes // 10**6} MB")
                    if time.monotonic() > deadline:
                        raise LabelStudioError(f"{where} did not arrive within {seconds:g} seconds")
                return bytes(content)
        except HTTPError as error:
            error.close()
            hint = "; set LABEL_STUDIO_API_KEY to the token of a user" if error.code in (401, 403) else ""
            raise LabelStudioError(f"{where} answered with status {error.code}{hint}") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise LabelStudioError(f"{where} cannot be reached: {' '.join(str(reason).split())[:200]}") from None


class _OwnRedirects(HTTPRedirectHandler):
    """Follow redirects that ``check`` accepts; it raises ValueError for the others."""

    max_redirections = 3

    def __init__(self, check: Callable[[str], None]) -> None:
        self._check = check

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self._check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(parts: Any) -> tuple[str, str, int | None]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


def _ascii(url: str) -> str:
    """Escape letters beyond ASCII, as browsers do."""
    return "".join(each if each.isascii() else "".join(f"%{byte:02X}" for byte in each.encode()) for each in url)
