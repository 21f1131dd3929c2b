"""Time and threads that are not the library's, in virtual time: `time.monotonic`, `time.sleep`, `threading.Thread`."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock._kernel.virtual import VirtualWorld


def virtualize(world_here: Callable[[], VirtualWorld | None]) -> Callable[[], None]:
    """From now on members have virtual time from these, and start members. Returns what ends that."""
    monotonic, sleep, start = time.monotonic, time.sleep, threading.Thread.start

    def virtual_monotonic() -> float:
        world = world_here()
        return monotonic() if world is None else world.monotonic()

    def virtual_sleep(seconds: float | SupportsIndex, /) -> None:
        world = world_here()
        if world is None or not float(seconds) > 0:
            sleep(seconds)
        else:
            world.sleep(float(seconds))

    def virtual_start(self: threading.Thread) -> None:
        world = world_here()
        if world is None or self.ident is not None:
            start(self)
        else:
            _start_member(world, self, start)

    time.monotonic, time.sleep = virtual_monotonic, virtual_sleep
    threading.Thread.start = virtual_start  # type: ignore[method-assign]

    def restore() -> None:
        time.monotonic, time.sleep = monotonic, sleep
        threading.Thread.start = start  # type: ignore[method-assign]

    return restore


def _start_member(world: VirtualWorld, thread: Any, start: Callable[[Any], None]) -> None:
    run = thread.run
    token = world.expect()

    def run_as_member() -> None:
        del thread.run
        world.enter(token)
        try:
            run()
        finally:
            world.leave()

    thread.run = run_as_member
    try:
        start(thread)
    except BaseException:
        world.forget(token)
        raise
