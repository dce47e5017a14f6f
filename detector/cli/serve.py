"""Open the web page: spp serve"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.console import Parser, console
from detector.cli.options import add_model_options, add_tiles_option, load_model, model_digests
from detector.model_file import DETECTOR, check_model_file
from detector.runtime.files import digest, read_text
from detector.runtime.openvino import Runtime
from detector.runtime.optional import optional
from detector.tiles import Tiles

if TYPE_CHECKING:
    from detector.web.remote import RemoteSession
    from detector.web.session import Session

MAX_TOKEN_BYTES = 10_000


def parser() -> Parser:
    parser = Parser(description="Serve a web page and a JSON API that detect objects in images. Ctrl-C ends it.")
    add_server_options(parser)
    parser.add_argument(
        "--label-studio",
        type=label_studio,
        metavar="URL",
        help="also be an ML backend of Label Studio at URL; images come from there alone",
    )
    parser.add_argument(
        "--label-studio-token",
        type=Path,
        metavar="FILE",
        help="of --label-studio: file with the token of a user there (default: the variable LABEL_STUDIO_API_KEY)",
    )
    add_model_options(parser)
    add_tiles_option(parser)
    return parser


def add_server_options(parser: Parser) -> None:
    """Add the options of a page's address."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind to (default: 127.0.0.1, only this machine)"
    )
    parser.add_argument("--port", type=port, default=8000, help="port to bind to; 0 for a free one (default: 8000)")
    parser.add_argument(
        "--allowed-host",
        type=allowed_host,
        action="append",
        default=[],
        metavar="NAME",
        help="another host name of the page, of a proxy or a container; repeat it for several",
    )
    parser.add_argument(
        "--root-path", type=root_path, default="", metavar="PATH", help="path below which a proxy serves the page"
    )


def label_studio(text: str) -> str:
    """Parse the URL of a Label Studio server."""
    from detector.web.label_studio_host import parse_host

    try:
        return parse_host(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_token(path: Path | None) -> str:
    """Return the token for Label Studio, of a file or of the environment; empty where there is none.

    Raises ValueError, which does not show it, for a text that cannot be a token.
    """
    where = "LABEL_STUDIO_API_KEY" if path is None else str(path)
    text = os.environ.get(where, "") if path is None else read_text(path, MAX_TOKEN_BYTES)
    if not re.fullmatch(r"[\x21-\x7e]*", token := text.strip()) or (path is not None and not token):
        raise ValueError(f"{where}: must hold a token of Label Studio in one line")
    return token


def allowed_host(text: str) -> str:
    """Parse a host name without port, or "*." and a domain."""
    if not re.fullmatch(r"(\*\.)?[\w.-]+|\[[0-9a-fA-F:.]+\]", text):
        raise argparse.ArgumentTypeError(f"must be a host name without scheme and port, but is {text!r}")
    return text.lower()


def root_path(text: str) -> str:
    """Parse a path of URLs, which begins with a slash."""
    if not re.fullmatch(r"(/[\w.~-]+)*/?", text) or ".." in text.split("/"):
        raise argparse.ArgumentTypeError(f"must be a path such as /detector, but is {text!r}")
    return text.rstrip("/")


def port(text: str) -> int:
    """Parse a port."""
    if not (text.isascii() and text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, but is {text}")
    return int(text)


def main() -> int:
    options = parser().parse_args()
    for path in options.model or ():
        check_model_file(path, DETECTOR)
    if options.label_studio_token is not None and options.label_studio is None:
        raise ValueError("--label-studio-token goes with --label-studio")
    token = read_token(options.label_studio_token) if options.label_studio else ""
    # first the session: its model loads in a process of its own while this one imports the server
    listener = listen(options.host, options.port)
    from detector.web.remote import RemoteSession

    session = RemoteSession(partial(load_session, options.model, options.device, options.runtime, options.tiles))
    for package in ("starlette", "uvicorn"):
        optional(package, "web")
    from detector.web.server import serve

    announce(listener, options.root_path)
    if options.label_studio is None:
        serve(session, listener, options.host, options.allowed_host, options.root_path)
    else:
        serve_label_studio(options, session, listener, token)
    return 0


def serve_label_studio(
    options: argparse.Namespace, session: RemoteSession, listener: socket.socket, token: str
) -> None:
    """Serve the page, and Label Studio's protocol."""
    from detector.web.label_studio import LabelStudioBackend, create_label_studio_app
    from detector.web.label_studio_host import LabelStudioHost
    from detector.web.label_studio_training import ProjectTrainer
    from detector.web.server import serve_app

    host = LabelStudioHost(options.label_studio, token)
    name = re.sub(r"[^\w.-]+", "-", options.label_studio.partition("://")[2])
    trainer = ProjectTrainer(Path("runs") / f"label-studio-{name}", host)
    model = " ".join(path.stem for path in options.model) if options.model else "shipped"
    version = f"{model} {digest(each.encode() for each in model_digests(options))[:8]}"
    load = partial(load_trained, options.device, options.runtime, options.tiles)
    backend = LabelStudioBackend(session, version, load, host, trainer)
    if not token:
        print("note: without LABEL_STUDIO_API_KEY, only public images can be fetched", file=sys.stderr)
    console.begin()
    app = create_label_studio_app(
        backend, options.host, allowed_hosts=options.allowed_host, root_path=options.root_path
    )
    serve_app(app, backend, listener)


def load_trained(device: str, runtime: Runtime | None, tiles: Tiles | None, model: Path) -> Session:
    """Load a model that was trained on a project, and create its session."""
    return load_session([model], device, runtime, tiles)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises OSError, in one line, for an address that cannot be used."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0].lower()
        raise OSError(f"cannot listen on {host}, port {port}: {reason}") from None


def address(listener: socket.socket) -> str:
    """Return the URL of the page on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def announce(listener: socket.socket, root_path: str) -> None:
    """Print the URL of the page, and a warning where it is open to other machines."""
    print(f"{address(listener)}{root_path} (Ctrl-C ends it)", flush=True)
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        print("warning: other machines can reach this page without a login", file=sys.stderr)


def load_session(models: list[Path] | None, device: str, runtime: Runtime | None, tiles: Tiles | None) -> Session:
    """Load the models and create their session."""
    from detector.web.session import Session

    return Session(load_model(models, device, runtime, tiles))
