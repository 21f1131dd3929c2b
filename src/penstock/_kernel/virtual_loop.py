"""asyncio's event loops in virtual time: a loop that has nothing to do is parked, and its timers are the world's.

A loop is taken over once it runs in a thread that is a member, and is given back when the world ends. Files bring their
events in real time, as they always do.
"""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from penstock._kernel.simulation import real_clock
from penstock._kernel.threads import this_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock._kernel.virtual import Due, VirtualWorld

LONGEST_SLEEP = 24 * 3600.0  # asyncio's, after which it looks again.


class VirtualSelector:
    """In place of a loop's selector: it waits in the world, and for files."""

    def __init__(self, world: VirtualWorld, loop: Any) -> None:
        self._world = world
        self.loop = weakref.ref(loop)
        self._selector = loop._selector
        self.call = loop._write_to_self
        """Wakes the loop from another thread."""
        self.ident = this_thread()
        self.called = False
        """Has it been called since it looked for events?"""
        self.callers = 0
        """How many threads are about to call it."""
        self.resting = False
        self.has_files = False
        self.due: Due | None = None

    def take_over(self) -> None:
        """Stand between the loop and its selector."""
        loop = self.loop()
        loop._selector = self
        loop._write_to_self = self._announced

    def give_back(self) -> None:
        """Stand there no more; the loop's timers keep what is left of their time."""
        loop = self.loop()
        if loop is None or loop._selector is not self:
            return
        loop._selector = self._selector
        del loop._write_to_self
        ahead = self._world.monotonic() - real_clock()
        for handle in loop._scheduled:  # All by the same, so the order stays.
            handle._when -= ahead

    def give_back_from_there(self) -> None:
        """Do that in the thread that runs the loop."""
        loop = self.loop()
        if loop is None or not loop.is_running() or self.ident == this_thread():
            self.give_back()
        else:
            with suppress(RuntimeError):  # It has been closed meanwhile.
                loop.call_soon_threadsafe(self.give_back)

    def _announced(self) -> None:
        with self._world.calling(self):
            self.call()

    def has_work(self) -> bool:
        """Is there something that it would do next? Asked in its thread."""
        loop = self.loop()
        return loop is not None and bool(loop._ready)

    def waits_for_files(self) -> bool:
        """Could events come, beside those by which other threads wake the loop?"""
        files = self._selector.get_map() if hasattr(self._selector, "get_map") else None
        return files is None or len(files) > 1

    def select(self, timeout: float | None = None) -> Any:
        """The events of files, after at most `timeout` seconds of the world's."""
        if self._world.over:
            return self._selector.select(timeout)
        self.called = False
        events = self._selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        loop: Any = self.loop()
        try:
            if not self._world.loop_rests(self, self._deadline(loop, timeout)):
                return events
            if not self.resting:  # The clock has moved, in this thread.
                return events
            return self._selector.select(None)
        finally:
            self._world.loop_goes_on(self)

    def _deadline(self, loop: Any, timeout: float | None) -> float:
        if timeout is None:
            return float("inf")
        longest = self._world.monotonic() + LONGEST_SLEEP
        return min(loop._scheduled[0]._when, longest) if loop._scheduled else longest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


def virtualize_loops(world_here: Callable[[], VirtualWorld | None]) -> Callable[[], None]:
    """From now on loops that run in a member's thread are taken over. Returns what ends that, for new ones."""
    loops: Any = asyncio.BaseEventLoop
    before = loops._run_once

    def run_once(self: Any) -> None:
        world = world_here()
        if world is not None and not isinstance(self._selector, VirtualSelector):
            world.take_over(VirtualSelector(world, self))
        before(self)

    loops._run_once = run_once

    def restore() -> None:
        loops._run_once = before

    return restore
