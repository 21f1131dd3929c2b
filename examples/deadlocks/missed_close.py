"""A missed close: the consumer asks for more when there will be no more."""

from __future__ import annotations

from penstock import Channel, Group

lines: Channel[str] = Channel()


def read() -> None:
    for line in ("one", "two", "three"):
        lines.send(line)
    # lines.close() is missing.


def count() -> None:
    print(sum(1 for _ in lines), "lines")


with Group() as group:
    group.go(read)
    group.go(count)
