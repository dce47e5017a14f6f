"""Label images in the browser while a detector learns from them: spp teach PHOTOS/"""

from __future__ import annotations

import sys
from pathlib import Path

from detector.cli.console import Parser, console
from detector.cli.serve import add_server_options, announce, listen
from detector.runtime.files import slug
from detector.runtime.optional import optional


def parser() -> Parser:
    parser = Parser(description="Serve a page to label images on, which learns as you label. Ctrl-C ends it.")
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of images, subfolders included")
    parser.add_argument(
        "--project",
        type=Path,
        metavar="DIR",
        help="folder of labels, features and models, to go on with later (default: teach/NAME of PHOTOS)",
    )
    add_server_options(parser)
    return parser


def main() -> int:
    options = parser().parse_args()
    for package, extra in (("starlette", "web"), ("uvicorn", "web"), ("scipy", "train"), ("sklearn", "train")):
        optional(package, extra)
    if not options.photos.is_dir():
        raise FileNotFoundError(f"{options.photos}: no such folder")
    listener = listen(options.host, options.port)
    from detector.teaching.project import Project

    project = Project(options.photos, options.project or Path("teach") / slug(options.photos))
    from detector.web.server import serve_app
    from detector.web.teach_app import create_teach_app
    from detector.web.teacher import Teacher

    teacher = Teacher(project)
    print(f"{len(project.images)} images of {options.photos}; labels are kept in {project.folder}", file=sys.stderr)
    announce(listener, options.root_path)
    console.begin()
    app = create_teach_app(teacher, options.host, allowed_hosts=options.allowed_host, root_path=options.root_path)
    serve_app(app, teacher, listener)
    return 0
