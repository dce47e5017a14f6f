"""YAML as plain values, read safely."""

from __future__ import annotations

import re
import reprlib
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-3 is a number as in YAML 1.2, and not a string for want of a point."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 80, 80, 40
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = _SHORT.maxset = 8

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_yaml(text: str) -> Any:
    """Plain values, lists and dictionaries of a YAML document; raises yaml.YAMLError, whatever is wrong with it."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        # what PyYAML makes of a value that is not of the type that its tag says
        raise yaml.YAMLError(f"a value is not of its type: {shortened(error)}") from None


def shortened(value: object) -> str:
    """A value in so few words that a line can hold them; aliases of YAML may make it grow without bound."""
    return _SHORT.repr(value) if not isinstance(value, Exception) else str(value)[:200]
