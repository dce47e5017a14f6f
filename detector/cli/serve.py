"""Open the web page: spp serve"""

from __future__ import annotations

import argparse
import ipaddress
import re
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.console import Parser
from detector.cli.options import add_model_options, add_tiles_option, load_model
from detector.model_file import DETECTOR, check_model_file
from detector.runtime.openvino import Runtime
from detector.runtime.optional import optional
from detector.tiles import Tiles

if TYPE_CHECKING:
    from detector.web.session import Session


def parser() -> Parser:
    parser = Parser(description="Serve a web page and a JSON API that detect objects in images. Ctrl-C ends it.")
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
    add_model_options(parser)
    add_tiles_option(parser)
    return parser


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
    # first the session: its model loads in a process of its own while this one imports the server
    listener = listen(options.host, options.port)
    from detector.web.remote import RemoteSession

    session = RemoteSession(partial(load_session, options.model, options.device, options.runtime, options.tiles))
    for package in ("starlette", "uvicorn"):
        optional(package, "web")
    from detector.web.server import serve

    print(f"{address(listener)}{options.root_path} (Ctrl-C ends it)", flush=True)
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        print("warning: other machines can reach this page without a login", file=sys.stderr)
    serve(session, listener, options.host, options.allowed_host, options.root_path)
    return 0


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


def load_session(models: list[Path] | None, device: str, runtime: Runtime | None, tiles: Tiles | None) -> Session:
    """Load the models and create their session."""
    from detector.web.session import Session

    return Session(load_model(models, device, runtime, tiles))
