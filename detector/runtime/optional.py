"""Packages that only an extra of the installation brings, or that only a user of theirs has."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


class MissingPackageError(ImportError):
    """A package is needed that is not installed; the message says in one line what to install."""


def optional(module: str, extra: str | None = None) -> ModuleType:
    """Import a module of a package that an ``extra`` of setup.cfg installs, or that is to be installed by its name.

    Raises MissingPackageError without it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        wanted = package if extra is None else f"'spp-detector[{extra}]'"
        raise MissingPackageError(f"{package} is not installed: pip install {wanted}", name=package) from None
