"""A bounded buffer with one condition: a notification meant for a consumer wakes a producer, and is lost."""

from __future__ import annotations

from penstock import Condition, Group, Mutex

ITEMS = 20_000
buffer: list[int] = []
changed = Condition(Mutex())


def put(item: int) -> None:
    with changed:
        while buffer:
            changed.wait()
        buffer.append(item)
        changed.notify()  # notify_all(), or a condition for each side, would do.


def take() -> int:
    with changed:
        while not buffer:
            changed.wait()
        item = buffer.pop()
        changed.notify()
        return item


def produce() -> None:
    for item in range(ITEMS):
        put(item)


def consume() -> None:
    for _ in range(ITEMS):
        take()


with Group() as group:
    for _ in range(3):
        group.go(produce)
        group.go(consume)
