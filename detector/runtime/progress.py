"""How long work tells that it goes on: a callable around whatever it loops over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Takes items and a title, and gives the items back one by one."""


def without_progress(items: Iterable[Any], title: str) -> Iterable[Any]:
    """Tell nothing."""
    return items
