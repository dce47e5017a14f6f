"""Tasks in order, their owners and retries; and values that items share on their way to actors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from detector.parallel.map_images import Shared
from detector.parallel.ray_actors import Packer, unpack
from detector.parallel.task_queue import TaskQueue, owner_of


@dataclass(frozen=True)
class Item:
    path: Path
    shared: Any = None


def test_all_items_of_an_image_have_one_owner() -> None:
    items = [Item(Path(f"{number}.jpg"), round_) for round_ in range(3) for number in range(20)]
    owners = {item.path: owner_of(item, 4) for item in items}
    assert all(owner_of(item, 4) == owners[item.path] for item in items)
    assert set(owners.values()) == {0, 1, 2, 3}
    assert owner_of(Item(Path("\udcff.jpg")), 4) == owner_of("\udcff.jpg", 4)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.integers(1, 4), st.integers(1, 9), st.randoms())
def test_owners_get_their_items_and_results_come_in_order(
    items: list[str], owners: int, window: int, random: Any
) -> None:
    queue = TaskQueue(items, window, owners)
    found: list[Any] = []
    under_way: list[Any] = []
    while not queue.is_done:
        owner = random.randrange(owners)
        for task in queue.take(2, owner):
            assert owner_of(task.item, owners) == owner
            under_way.append(task)
        assert len(under_way) <= window
        if under_way:
            task = under_way.pop(random.randrange(len(under_way)))
            if task.deaths == 0 and random.random() < 0.3:
                queue.retry([task], task, "killed")
            else:
                queue.finish(task, task.item.upper())
        found += queue.in_order()
    assert found == [(each, each.upper()) for each in items]


def test_retried_tasks_come_first_alone_and_only_where_allowed() -> None:
    queue = TaskQueue("abcde", 9)
    first = queue.take(2)
    queue.retry(first, first[0], "killed")
    assert [(task.item, task.deaths, task.retried) for task in first] == [("a", 1, True), ("b", 0, True)]
    assert [task.item for task in queue.take(2, retry=False)] == ["c", "d"]
    assert [task.item for task in queue.take(2)] == ["a"]
    assert [task.item for task in queue.take(2)] == ["b"]
    assert [task.item for task in queue.take(2)] == ["e"]


class Store:
    """Of Ray, what keeps values; a reference is their number."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def put(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1


def test_what_items_share_is_sent_once() -> None:
    store = Store()
    packer = Packer(store)
    first, second = Shared("weights"), Shared("other weights")
    items = [Item(Path("a"), first), Item(Path("b"), second), Item(Path("c")), Item(Path("d"), second)]
    packed, references = packer.pack(items)
    assert not any(isinstance(each.shared, Shared) for each in packed)
    unpacked = unpack(packed, [store.values[each] for each in references])
    assert [each.path for each in unpacked] == [each.path for each in items]
    values = [each.shared and each.shared.value for each in unpacked]
    assert values == ["weights", "other weights", None, "other weights"]
    for _ in range(3):
        packer.pack([items[1], items[3]])
    assert store.values == ["weights", "other weights"]
    assert packer.pack(["plain"]) == (["plain"], [])
