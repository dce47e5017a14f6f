"""YAML as plain values, read safely."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-3 is a number as in YAML 1.2, and not a string for want of a point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_yaml(text: str) -> Any:
    """Plain values, lists and dictionaries of a YAML document; raises yaml.YAMLError."""
    return yaml.load(text, _Loader)
