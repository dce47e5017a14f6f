"""Recipes for tests, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector.config.detector import Config, parse_config


def config_of(*parts: Mapping[str, Mapping[str, Any]]) -> Config:
    """A recipe of sections and their keys; of a key in several parts the last one counts."""
    content: dict[str, dict[str, Any]] = {}
    for part in parts:
        for section, keys in part.items():
            content.setdefault(section, {}).update(keys)
    return parse_config(content, "test")
