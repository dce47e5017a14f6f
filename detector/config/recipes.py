"""Read recipes: YAML files with the settings of a training, strictly validated."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detector.runtime.files import read_text


class _Loader(yaml.SafeLoader):
    """YAML 1.1 loader that reads 1e-3 as a number, as YAML 1.2 does, and not as a string."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 80, 80, 40
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = _SHORT.maxset = 8

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_yaml(text: str) -> Any:
    """Return plain values, lists and dictionaries of a YAML document. Raises yaml.YAMLError for any mistake."""
    try:
        return yaml.load(text, _Loader)  # nosec B506: a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML raises these for a value that does not match its tag
        raise yaml.YAMLError(f"a value is not of its type: {shortened(error)}") from None


def shortened(value: object) -> str:
    """Return a value as text that fits into a line; YAML aliases may make it grow without bound."""
    return _SHORT.repr(value) if not isinstance(value, Exception) else str(value)[:200]


Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(ge=1, le=4096)]
"""Side of an image in pixels; feature maps of larger images would not fit into memory."""
Pixels = Annotated[int, Field(ge=1, le=2000)]
"""Shorter side in pixels, if the longer one may be four times as long."""
Width = Annotated[int, Field(ge=1, le=65536)]
"""Width of a fully connected layer."""
Level = Annotated[int, Field(ge=1, le=64)]
_MAX_BYTES = 1_000_000


class Section(BaseModel):
    """Section of a recipe, or a whole recipe. Every key has a default; unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show only what differs from the defaults."""
        fields = type(self).model_fields
        return [(name, value) for name, value in super().__repr_args__() if name and value != fields[name].default]


Recipe = TypeVar("Recipe", bound=Section)


def shipped_recipes() -> dict[str, Path]:
    """Return the paths of the recipes of the package, by name."""
    package = Path(__file__).parents[1]
    # the package holds the folder configs/ of a checkout as recipes/
    folder = next(path for path in (package / "recipes", package.parent / "configs") if path.is_dir())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(recipe: str | Path, kind: type[Section]) -> Path:
    """Return the file of a recipe, which is given by its path or by the name of a recipe of the package.

    Raises ValueError for an unknown name, with the names of recipes of this ``kind``.
    """
    path = Path(recipe)
    if path.is_file() or path.suffix or len(path.parts) != 1:
        return path
    shipped = shipped_recipes()
    if path.name not in shipped:
        names = ", ".join(recipe_names(kind))
        raise ValueError(f"{recipe}: there is no such recipe; give a YAML file or one of {names}")
    return shipped[path.name]


def recipe_names(kind: type[Section]) -> list[str]:
    """Return the names of the recipes of the package of one kind."""
    return [name for name, path in shipped_recipes().items() if _is_of(path, kind)]


def _is_of(path: Path, kind: type[Section]) -> bool:
    try:
        read_recipe(path, kind)
    except ValueError:
        return False
    return True


def read_recipe(recipe: str | Path, kind: type[Recipe]) -> Recipe:
    """Read a YAML recipe, see `find_recipe`.

    Raises OSError for a file that cannot be read, and ValueError, in one line with file, key and allowed values, for a
    file that is not YAML or not a valid recipe.
    """
    path = find_recipe(recipe, kind)
    try:
        content = load_yaml(read_text(path, _MAX_BYTES))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    return parse_recipe({} if content is None else content, kind, str(path))


def parse_recipe(content: Any, kind: type[Recipe], source: str) -> Recipe:
    """Return the recipe of ``content``; error messages name it ``source``. Raises ValueError for an invalid one."""
    if not isinstance(content, dict):
        example = next(iter(kind.model_fields))
        raise ValueError(f"{source}: must hold sections such as '{example}:', but holds {type(content).__name__}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{source}: {_first_error(error, kind)}") from None


def _first_error(error: ValidationError, kind: type[Section]) -> str:
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {location!r}; allowed are {', '.join(_keys_of_section(first['loc'], kind))}"
    if first["type"] == "value_error":
        return f"{location}: {first['ctx']['error']}".removeprefix(": ")
    return f"{location}: {first['msg'][0].lower()}{first['msg'][1:]}, but is {shortened(first['input'])}"


def _keys_of_section(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        model = type(model.model_fields[str(part)].default)
    return list(model.model_fields)
