"""Try the detector in the browser: spp serve"""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING

from detector.cli.console import Parser
from detector.cli.options import add_model_options
from detector.model_file import DETECTOR, check_model_file
from detector.runtime.optional import optional

if TYPE_CHECKING:
    from detector.web.session import Session


def parser() -> Parser:
    parser = Parser(description="Serve a page, and a JSON API, that detect objects in images. Ctrl-C ends it.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind to (default: 127.0.0.1, this machine alone)"
    )
    parser.add_argument("--port", type=port, default=8000, help="port to bind to; 0 for any free one (default: 8000)")
    add_model_options(parser)
    return parser


def port(text: str) -> int:
    """Type of an option that is a port."""
    if not (text.isascii() and text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, but is {text}")
    return int(text)


def main() -> int:
    options = parser().parse_args()
    for path in options.model or ():
        check_model_file(path, DETECTOR)
    # in this order: the model loads in its own process while this one imports its server
    listener = listen(options.host, options.port)
    from detector.web.remote import RemoteSession

    given = options.model, options.device, options.weights, options.mirror, options.runtime
    session = RemoteSession(partial(_load, *given))
    for package in ("starlette", "uvicorn"):
        optional(package, "web")
    from detector.web.server import serve

    print(f"{address(listener)} (Ctrl-C ends it)", flush=True)
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        print("warning: other machines can reach this page, and nobody has to log in", file=sys.stderr)
    serve(session, listener, options.host)
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises OSError, in one line, where the address cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0].lower()
        raise OSError(f"cannot listen on {host}, port {port}: {reason}") from None


def address(listener: socket.socket) -> str:
    """What to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _load(*options: object) -> Session:
    from detector.web.session import load_session

    return load_session(*options)  # type: ignore[arg-type]
