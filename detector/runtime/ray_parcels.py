"""Items on their way to actors: what many of them share is sent to each node once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from detector.runtime.map_images import Shared


class Parcels:
    """Packs items. What they share stays on the cluster until they share another value."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._sent: tuple[Shared, Any] | None = None

    def pack(self, items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The items, with numbers in place of what they share, and the references which these number."""
        shared = list({id(each.shared): each.shared for each in items if _shares(each, Shared)}.values())
        numbers = {id(each): number for number, each in enumerate(shared)}
        packed = [replace(each, shared=numbers[id(each.shared)]) if _shares(each, Shared) else each for each in items]
        return packed, [self._reference(each) for each in shared]

    def _reference(self, shared: Shared) -> Any:
        if self._sent is None or self._sent[0] is not shared:
            self._sent = shared, self._ray.put(shared.value)
        return self._sent[1]


def unpack(items: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """The items of `Parcels.pack`, of which the references came as ``values``."""
    shared = [Shared(value) for value in values]
    return [replace(each, shared=shared[each.shared]) if _shares(each, int) else each for each in items]


def _shares(item: Any, kind: type) -> bool:
    return isinstance(getattr(item, "shared", None), kind)
