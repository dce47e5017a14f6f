"""Import optional packages: those of an extra, and those that only some users need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class MissingPackageError(ImportError):
    """A needed package is not installed; the message is one line that says how to install it."""


def optional(module: str, extra: str | None = None) -> ModuleType:
    """Import a module of an optional package; ``extra``: the one of setup.cfg that installs it, if any.

    Raises MissingPackageError where the package is missing.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        wanted = package if extra is None else f"'spp-detector[{extra}]'"
        raise MissingPackageError(f"{package} is not installed: pip install {wanted}", name=package) from None
