"""All asleep: is every task parked, with nothing left that could wake one?

One look takes everything in one after the other while the program may run on, so what it sees need not have been true
at one instant. Two looks that find the same operations parked, each of which is parked once only, prove that these were
parked all the time in between; and the second look finds nobody else. So nothing happens any more. Where the system
tells how often each thread has gone to sleep, that must be the same as well: a thread that has been woken, and waits
for the GIL, looks in Python as if it slept on. Then garbage is collected, since a finalizer may close a channel, and a
third look decides.

What could go on is not asleep: a timer or a deadline, a thread that is not known to sleep, a loop that waits for more
than other threads, a signal handler, a simulated world, another interpreter.
"""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock._kernel import simulation
from penstock._kernel.foreign import (
    native_threads,
    signal_handlers,
    sleeps,
    sleeps_for_others,
    waits_for_threads_to_end,
)
from penstock._kernel.inspection import fail, parked_operations
from penstock._kernel.loops import awaited_by, is_loops_sleep, loop_without_work, main_task, raise_in
from penstock._kernel.threads import (
    daemons,
    frames_of_threads,
    idle_workers,
    main_thread_ident,
    other_interpreters,
    sleeping_threads,
)
from penstock._kernel.timers import idle_service, pending_timers
from penstock.deadlock.turns import TURN
from penstock.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SOON = 0.1
LONGEST = 10.0
NEVER = 3600.0


class Asleep(NamedTuple):
    """What a look found, when all were asleep."""

    waiters: frozenset[weakref.ref[Any]]
    """The parked operations: the same ones, if nothing has moved."""
    loops: dict[int, Any]
    """The event loop of each thread that runs one."""
    main_elsewhere: bool
    """Does the main thread sleep outside of the library, where nothing can be raised?"""


class Settings:
    """What whoever watches has said."""

    def __init__(self) -> None:
        self.watching = False
        """Then the main thread looks often, and also where threads that are not Python's cannot be seen."""
        self.own_handlers: list[Any] = []
        """Signal handlers that wake nobody."""
        self.end: Callable[[], object] | None = None
        """Called when all is asleep, and the main thread is where nothing can be raised: it joins, or has ended."""


SETTINGS = Settings()


def could_go_on(threads: int) -> bool:
    """Is there something, beside those Python threads, that could wake a task?"""
    if pending_timers() or simulation.in_use() or other_interpreters():
        return True
    natives = native_threads()
    if not SETTINGS.watching if natives is None else natives != threads:
        return True
    return any(handler not in SETTINGS.own_handlers for handler in signal_handlers())


class Observer:
    """One who looks again and again, from the main thread, which is parked, or from a thread of its own."""

    def __init__(self, *, in_main_thread: bool) -> None:
        self._in_main_thread = in_main_thread
        self._before: dict[int, int] = {}
        self._last: object = None
        """The parked operations of the last look, and how often each thread has gone to sleep."""
        self._collected = False
        self._raised: object = None
        self._looking = False

    def look(self) -> tuple[Asleep | None, bool]:
        """What was found, when all were asleep; and whether that is proved by now."""
        if self._looking or sys.is_finalizing():  # A finalizer has parked, of those that are run below.
            return None, False
        if not TURN.try_take():  # Somebody searches for leaks, who would take what this look has in hand for held.
            return None, False
        self._looking = True
        try:
            return self._look()
        finally:
            self._looking = False
            TURN.give()

    def _look(self) -> tuple[Asleep | None, bool]:
        found = self._found()
        asleep = None if found is None else sleeps(daemons.values())
        if found is None or asleep is None or found.waiters == self._raised:
            self._last = None
            return None, False
        if (found.waiters, asleep) != self._last:
            self._last = (found.waiters, asleep)
            self._collected = False
            return found, False
        if not self._collected and gc.isenabled():
            self._collected = True
            gc.collect()
            return found, False
        self._raised = found.waiters
        return found, True

    def _found(self) -> Asleep | None:
        frames = frames_of_threads()
        if could_go_on(len(frames)):
            return None
        unknown = set(frames).difference(daemons)
        if self._in_main_thread:
            unknown.discard(main_thread_ident())
        quiet: dict[int, FrameType] = {}
        if sleeping_threads() < len(unknown):
            # Frames of threads that run are not looked into: the innermost one must have stayed the same.
            before, self._before = self._before, {ident: id(frame) for ident, frame in frames.items()}
            for ident in unknown:
                frame = frames[ident]
                if before.get(ident) == id(frame) and _sleeps_elsewhere(ident, frame):
                    quiet[ident] = frame
            if sleeping_threads() + len(quiet) < len(unknown):
                return None
        found = self._parked(unknown, quiet)
        if found is None:
            return None
        again = frames_of_threads()
        if set(again) != set(frames) or could_go_on(len(again)):
            return None
        if all(again[ident] is frame and _sleeps_elsewhere(ident, frame) for ident, frame in quiet.items()):
            return found
        return None

    def _parked(self, unknown: set[int], quiet: dict[int, FrameType]) -> Asleep | None:  # noqa: C901  one look
        """What is parked, if that explains what all of these threads do."""
        loops: dict[int, Any] = {}
        for ident, frame in quiet.items():
            if is_loops_sleep(frame):
                loop = loop_without_work(frame)
                if loop is None:
                    return None
                loops[ident] = loop
        idle = {*idle_workers(), idle_service()}
        parked = set()
        waiters = set()
        for operation in parked_operations():
            if operation.future is None:
                if operation.thread not in unknown and not self._is_mine(operation.thread):
                    continue  # Its thread is gone: it has been parked when the interpreter was.
                parked.add(operation.thread)
            elif operation.future.get_loop() not in loops.values():
                continue  # Nobody runs its loop.
            if operation.deadline is not None:
                return None
            waiters.add(weakref.ref(operation.waiter))
        if not waiters or unknown - parked - idle - set(quiet):
            return None
        if sleeping_threads() < len(unknown & (parked | idle)):
            return None
        main = main_thread_ident()
        return Asleep(frozenset(waiters), loops, main in quiet and main not in loops)

    def _is_mine(self, thread: int) -> bool:
        return self._in_main_thread and thread == main_thread_ident()


def _sleeps_elsewhere(ident: int, frame: FrameType) -> bool:
    """Does a thread whose innermost frame this is sleep in a place that is known, outside of the library?"""
    if is_loops_sleep(frame) or sleeps_for_others(frame):
        return True
    return ident == main_thread_ident() and waits_for_threads_to_end(frame)


def deadlock_error() -> DeadlockError:
    """The error that tells who waits for what."""
    from penstock.deadlock.reporting import report

    return DeadlockError(report())


_main = Observer(in_main_thread=True)


def look_from_main(slept: float) -> float | BaseException:
    """For the main thread, which is parked and has slept that long since it looked last: see `look_out`."""
    if not SETTINGS.watching and native_threads() is None:
        return NEVER
    try:
        found, proved = _main.look()
        if proved:
            return deadlock_error()
    except Exception as error:  # noqa: BLE001  a look that fails must not fail what is looked at
        sys.excepthook(type(error), error, error.__traceback__)
        return NEVER
    if found is not None:
        return SOON
    return 0.5 if SETTINGS.watching else min(2 * slept, LONGEST)


class LoopObserver:
    """Looks, from a thread of its own, for what the main thread does not see: it runs a loop, joins, or has ended."""

    def __init__(self) -> None:
        self._observer = Observer(in_main_thread=False)

    def look(self) -> float:
        """Raise `DeadlockError` in the main task, if it has come to that. The seconds until the next look."""
        found, proved = self._observer.look()
        if found is None:
            return 0.5
        if not proved:
            return SOON
        loop = found.loops.get(main_thread_ident())
        task = None if loop is None else main_task(loop)
        if loop is not None and task is not None:
            loop.call_soon_threadsafe(fail_awaited, task, deadlock_error())
        elif found.main_elsewhere and SETTINGS.end is not None:
            SETTINGS.end()
        return 0.5


def fail_awaited(task: Any, error: DeadlockError) -> None:
    """In the thread of its loop: let `task` raise `error`, or the task that it awaits."""
    waits, future = awaited_by(task)
    if future is None or future.done():
        return
    for operation in parked_operations():
        if operation.future is future:
            fail(operation, error)
            return
    raise_in(waits, future, error)
