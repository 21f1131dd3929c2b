"""Bugs of Syncthing that block for ever, after the kernels of GoBench.

GoBench: Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021. Written anew for
Penstock from what is told there of each bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Once, RWMutex, select

if TYPE_CHECKING:
    from collections.abc import Callable


class _Mapping:
    """External addresses under a lock, and subscribers to be told of changes."""

    def __init__(self) -> None:
        self.lock = RWMutex()
        self.addresses = {"test": 0}
        self.subscribers: list[Callable[[list[int]], None]] = []

    def notify(self, removed: list[int]) -> None:
        with self.lock.read():
            for tell in self.subscribers:
                tell(removed)


@blocking("syncthing", 4829)
def syncthing_4829(fixed: bool) -> None:
    """A mapping is cleared under its lock for writing, and whoever is told takes it for reading. Fixed by telling after
    the lock is released.
    """

    def clear(mapping: _Mapping) -> None:
        with mapping.lock.write():
            removed = list(mapping.addresses.values())
            mapping.addresses.clear()
            if removed and not fixed:
                mapping.notify(removed)
        if removed and fixed:
            mapping.notify(removed)

    service = RWMutex()
    mappings = [_Mapping()]
    with service.write():
        for mapping in mappings:
            clear(mapping)


@blocking("syncthing", 5795)
def syncthing_5795(fixed: bool) -> None:
    """A message's handler closes the connection, which waits until the messages' dispatcher has ended: that is the
    handler's own task. Fixed by closing it in a task of its own.
    """

    def read() -> None:
        closed.recv_ok()

    def dispatch() -> None:
        with dispatcher_ended:
            while (got := select(inbox, closed)).index == 0:
                got.value()

    def close() -> None:
        if fixed:
            go(close_once.do, close_and_wait)
        else:
            close_once.do(close_and_wait)

    def close_and_wait() -> None:
        closed.close()
        dispatcher_ended.recv_ok()

    inbox: Channel[Callable[[], None]] = Channel()
    closed: Channel[None] = Channel()
    dispatcher_ended: Channel[None] = Channel()
    close_once = Once()
    go(read)
    go(dispatch)
    inbox.send(close)
    dispatcher_ended.recv_ok()
