"""Virtual time: threads and event loops run for real, on a clock that jumps when all of them are parked.

Threads are members of the world from their start, if a member starts them: in the library, or by `threading.Thread`.
All others stay in real time. A member is at work unless it is parked in the library, or its loop has nothing to do.

Invariants (guarded by the world's lock)
  V1. `_working` holds each member at work, each that has been started and has not begun, and each that has been woken
      and has not gone on yet. Who wakes a member adds it, before the member itself can run.
  V2. The clock moves, and what is due happens, only while nobody is at work: who sees that to it counts as at work.
      It never goes back.
  V3. Whoever leaves `_working` without anybody left in it sees to it that time passes; where files may still bring
      events, or members sleep outside of the library, the monitor does, after a while.
The lock is re-entrant, since a finalizer may wake a member at any point.
"""

from __future__ import annotations

import _thread
import heapq
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock._kernel.foreign import others_run, runs, sleeps_for_others, waits_for_ending, waits_in_futex
from penstock._kernel.inspection import fail_waiter
from penstock._kernel.loops import running_event_loop
from penstock._kernel.simulation import (
    Seat,
    SimulatedWaiter,
    World,
    choose_for_real,
    expire,
    install,
    real_clock,
    simulated,
    start_for_real,
    uninstall,
)
from penstock._kernel.threads import daemons, frames_of_threads, raise_at_next_instruction, this_thread, thread_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock._kernel.virtual_loop import VirtualSelector

FOREVER = float("inf")
TICK = 0.01
"""The monitor looks this often, in seconds."""
PATIENCE = 5
"""So many ticks without an event, and none is expected any more from the files that loops wait for."""
IDLE_JUMPS = 1000
"""So many jumps of the clock that wake nobody, and it is asked whether anything can."""
DEAD = 100
"""So many ticks with nobody at work, nothing due, and no other thread that moves: that is a deadlock."""
_SERVANTS: set[int] = set()
"""The threads in which worlds do their own work."""
_CLOCK = object()
"""Stands in `_working` for whoever lets time pass."""


class Due:
    """Something that happens at a time."""

    __slots__ = ("deadline", "happen", "order")

    def __init__(self, deadline: float, order: int, happen: Callable[[], object]) -> None:
        self.deadline = deadline
        self.order = order
        self.happen: Callable[[], object] | None = happen
        """None: it has happened, or has been called off."""

    def __lt__(self, other: Due) -> bool:
        return (self.deadline, self.order) < (other.deadline, other.order)


class Place:
    """Where a member is parked."""

    __slots__ = ("ident", "roused", "seat")

    def __init__(self) -> None:
        self.ident = this_thread()
        self.roused = False
        self.seat = Seat()


class VirtualWorld(World):
    """The members, what they wait for, and their clock."""

    def __init__(self, fail_owner: Callable[[VirtualWorld], None]) -> None:
        self._lock = _thread.RLock()
        self._owner = this_thread()
        self._fail_owner = fail_owner
        self._working: set[Any] = {self._owner}
        self._members = 1
        """How many there are, those among them that have not begun."""
        self._settling: list[Place] = []
        self._heap: list[Due] = []
        self._called_off = 0
        self._orders = 0
        self._timers: dict[Any, Due] = {}
        self._loops: list[VirtualSelector] = []
        self._resting_loops: set[VirtualSelector] = set()
        self._epoch = 0
        """Grows whenever a member parks, goes on, begins or ends."""
        self._now = self.began = float(-(-real_clock() // 1))  # A whole number: what is added stays exact.
        self._ahead = 0.0
        self._serving = False
        self._rung = False
        self._bell = Seat()
        self._stop = Seat()
        self._gone = Seat()
        self.over = False
        """Then what is left goes on in real time."""
        self._parked_owner: SimulatedWaiter | None = None
        """What the thread that began is parked with."""
        self.at_end: list[Callable[[], None]] = []
        """What gives back the standard library's clocks and threads."""

    # From outside

    def begin(self) -> None:
        """The calling thread is the first member."""
        start_for_real(self._monitor)  # First, since it may fail.
        install()
        simulated.worlds[self._owner] = self

    def end(self) -> None:
        """The calling thread, the one that began, is no member any more; the others go on in real time."""
        simulated.worlds.pop(self._owner, None)
        with self._lock:
            self._ahead = self._now - real_clock()
            self.over = True
            self._working.discard(self._owner)
        while self.at_end:
            self.at_end.pop()()
        for loop in self._loops:
            loop.give_back_from_there()
        self._loops.clear()
        self._stop.rouse()
        self._gone.rest()
        with self._lock:
            if self._first() is not None:
                self._serve()
        self._departs()

    def fail_owner(self, error: BaseException) -> bool:
        """Let the operation in which the thread that began is parked raise `error`. False: it is not parked in one."""
        with self._lock:
            waiter = self._parked_owner
        return waiter is not None and fail_waiter(waiter, error)

    def owners_loop(self) -> Any:
        """The event loop that the thread that began runs, if it has nothing to do."""
        with self._lock:
            return next((rests.loop() for rests in self._resting_loops if rests.ident == self._owner), None)

    def elapsed(self) -> float:
        """How much time has passed, in seconds."""
        return self.monotonic() - self.began

    # What the seam asks

    def monotonic(self) -> float:
        return real_clock() + self._ahead if self.over else self._now

    def choose(self, n: int) -> int:
        return choose_for_real(n)

    def give_way(self) -> None:
        """The interpreter sees to that."""

    def start(self, function: Callable[[], object]) -> None:
        token = self.expect()
        try:
            start_for_real(partial(self._run, token, function))
        except BaseException:
            self.forget(token)
            raise

    def park(self, waiter: SimulatedWaiter, deadline: float) -> None:
        place = Place()
        due = None
        try:
            with self._lock:
                if waiter.seat is not None:
                    return  # Woken before.
                waiter.seat = place
                if deadline < FOREVER and not self.over:
                    due = self._set(deadline, partial(self._rouse, place))
                if place.ident == self._owner:
                    self._parked_owner = waiter
                self._rests(place.ident)
            self._pass_time()
            self._rest(place, deadline)
        finally:
            with self._lock:
                if due is not None:
                    self._call_off(due)
                if place.ident == self._owner:
                    self._parked_owner = None
                self._goes_on(place)

    def wake(self, waiter: SimulatedWaiter) -> None:
        with self._lock:
            place = waiter.seat
            waiter.seat = self
        if isinstance(place, Place):
            self._rouse(place)

    def redeliver(self, error: BaseException) -> None:
        raise_at_next_instruction(error)

    def arm(self, timer: Any, deadline: float) -> None:
        self._refuse_other_loops()
        with self._lock:
            self.disarm(timer)
            self._timers[timer] = self._set(deadline, partial(self._expire, timer))
            if self.over:
                self._serve()

    def disarm(self, timer: Any) -> bool:
        with self._lock:
            due = self._timers.pop(timer, None)
            if due is None:
                return False
            self._call_off(due)
            return True

    def _expire(self, timer: Any) -> None:
        with self._lock:
            found = self._timers.pop(timer, None) is not None
        if found:
            expire(timer)

    # Members

    def expect(self) -> object:
        """A member has been started. It begins with `enter`, with what this returns."""
        token = object()
        with self._lock:
            self._members += 1
            self._working.add(token)
        return token

    def forget(self, token: object) -> None:
        """It could not be started."""
        with self._lock:
            self._working.discard(token)
        self._departs()

    def enter(self, token: object) -> None:
        """The calling thread is a member."""
        ident = this_thread()
        simulated.worlds[ident] = self
        with self._lock:
            self._working.add(ident)
            self._working.discard(token)
            self._epoch += 1

    def leave(self) -> None:
        """The calling thread is no member any more."""
        ident = this_thread()
        with self._lock:
            self._rests(ident)
        try:
            self._pass_time()
        finally:
            simulated.worlds.pop(ident, None)
            self._departs()

    def _run(self, token: object, function: Callable[[], object]) -> None:
        self.enter(token)
        try:
            function()
        finally:
            self.leave()

    def sleep(self, seconds: float) -> None:
        """The calling thread sleeps, and no context ends that."""
        self.park(SimulatedWaiter(self), self.monotonic() + seconds)

    def settle(self) -> None:
        """Return once nobody else is at work; the clock has not moved then."""
        place = Place()
        try:
            with self._lock:
                self._settling.append(place)
                self._rests(place.ident)
            self._pass_time()
            self._rest(place, FOREVER)
        finally:
            with self._lock:
                if place in self._settling:
                    self._settling.remove(place)
                self._goes_on(place)

    def _rests(self, ident: int) -> None:
        self._working.discard(ident)
        self._epoch += 1

    def _goes_on(self, place: Place) -> None:
        """If nobody has roused it: it is interrupted, or its time has come in real time."""
        if not place.roused:
            place.roused = True
            self._working.add(place.ident)
            self._epoch += 1

    def _rouse(self, place: Place) -> None:
        with self._lock:
            if place.roused:
                return
            place.roused = True
            self._working.add(place.ident)
            self._epoch += 1
        place.seat.rouse()

    def _rest(self, place: Place, deadline: float) -> None:
        if self.over and deadline < FOREVER:
            place.seat.rest(max(0.0, deadline - self.monotonic()))
        else:
            place.seat.rest()

    # Loops: see `virtual_loop`

    def take_over(self, loop: VirtualSelector) -> None:
        """A loop has begun to run in the calling thread."""
        with self._lock:
            if self.over:
                return
            self._loops.append(loop)
        loop.take_over()

    def loop_rests(self, loop: VirtualSelector, deadline: float) -> bool:
        """A member's loop has nothing to do until `deadline`. False: it is to look again."""
        with self._lock:
            if loop.called or loop.callers or self.over:
                return False
            loop.resting = True
            self._resting_loops.add(loop)
            if deadline < FOREVER:
                loop.due = self._set(deadline, partial(self._call_loop, loop))
            loop.has_files = loop.waits_for_files()
            self._rests(loop.ident)
        self._pass_time(mine=loop)
        return True

    def loop_goes_on(self, loop: VirtualSelector) -> None:
        """The loop is at work again."""
        with self._lock:
            if loop.due is not None:
                self._call_off(loop.due)
                loop.due = None
            self._rouse_loop(loop)

    @contextmanager
    def calling(self, loop: VirtualSelector) -> Iterator[None]:
        """In the block, a thread wakes the loop: it does not rest before it has looked for events once more."""
        with self._lock:
            loop.callers += 1
            self._rouse_loop(loop)
        try:
            yield
        finally:
            with self._lock:
                loop.callers -= 1
                loop.called = True

    def _rouse_loop(self, loop: VirtualSelector) -> bool:
        if not loop.resting:
            return False
        loop.resting = False
        self._resting_loops.discard(loop)
        self._working.add(loop.ident)
        self._epoch += 1
        return True

    def _waits_for_files(self) -> bool:
        with self._lock:
            return any(loop.has_files for loop in self._resting_loops)

    def _call_loop(self, loop: VirtualSelector) -> None:
        with self._lock:
            roused = self._rouse_loop(loop)
        if roused:
            loop.call()

    def _refuse_other_loops(self) -> None:
        loop: Any = running_event_loop()
        if loop is not None and not hasattr(loop, "_run_once"):
            raise RuntimeError(
                f"virtual_time() moves the clock of asyncio's own event loops; {type(loop).__module__}."
                f"{type(loop).__qualname__} keeps the real time: run this under asyncio's own loop"
            )

    # Time

    def _set(self, deadline: float, happen: Callable[[], object]) -> Due:
        self._orders += 1
        due = Due(deadline, self._orders, happen)
        heapq.heappush(self._heap, due)
        return due

    def _call_off(self, due: Due) -> None:
        if due.happen is None:
            return
        due.happen = None
        self._called_off += 1
        if 2 * self._called_off > len(self._heap) + 100:
            self._heap = [due for due in self._heap if due.happen is not None]
            heapq.heapify(self._heap)
            self._called_off = 0

    def _first(self) -> Due | None:
        """What happens next."""
        while self._heap:
            if self._heap[0].happen is not None:
                return self._heap[0]
            heapq.heappop(self._heap)
            self._called_off -= 1
        return None

    def _pass_time(
        self, asleep: frozenset[int] = frozenset(), *, patient: bool = False, mine: VirtualSelector | None = None
    ) -> bool:
        """While nobody is at work: let those go on who settle, or else move the clock to what is due next.

        Members in `asleep` are known to sleep outside of the library. `patient`: files bring nothing. `mine`: the loop
        of the calling thread, which is not called when what happens gives it work. False: nothing is left that could
        happen.
        """
        begun = self._orders
        jumps = 0
        while True:
            with self._lock:
                if self.over or not self._working <= asleep or (self._waits_for_files() and not patient):
                    return True
                first = self._first()
                if self._settling:
                    self._rouse(self._settling.pop(0))
                    return True
                if first is None or (jumps % IDLE_JUMPS == IDLE_JUMPS - 1 and self._only_ticks(begun)):
                    return False
                jumps += 1
                self._now = max(self._now, first.deadline)
                self._working.add(_CLOCK)
            try:
                self._happen()
            finally:
                with self._lock:
                    if mine is not None and mine.has_work():
                        self._rouse_loop(mine)
                    self._working.discard(_CLOCK)

    def _only_ticks(self, begun: int) -> bool:
        """Has all that is due been set since then? That is by tickers, which nobody reads."""
        return all(due.order > begun for due in self._heap if due.happen is not None)

    def _happen(self) -> None:
        """What is due by now happens."""
        while True:
            with self._lock:
                due = self._first()
                if due is None or due.deadline > self._now:
                    return
                heapq.heappop(self._heap)
                happen, due.happen = due.happen, None
            if happen is not None:
                happen()

    # The monitor

    def _monitor(self) -> None:
        """Sees what members cannot see: that they sleep outside of the library, that files bring nothing, deadlocks."""
        ident = this_thread()
        simulated.worlds[ident] = self  # What is due happens in this world.
        _SERVANTS.add(ident)
        try:
            epoch = ticks = told = 0
            frames: dict[int, Any] = {}
            while not self._stop.rest(TICK):
                with self._lock:
                    working = frozenset(self._working)
                    ticks = ticks + 1 if epoch == self._epoch else 0
                    epoch = self._epoch
                if not ticks:
                    frames = {}
                    continue
                before, frames = frames, frames_of_threads()
                if not _asleep(working, before, frames, still=ticks >= PATIENCE):
                    continue
                if (not self._waits_for_files() or ticks >= PATIENCE) and not self._pass_time(working, patient=True):
                    others = set(frames) - daemons.keys() - _SERVANTS
                    if any(frames[other] is not before.get(other) for other in others):
                        ticks = 0
                    elif ticks >= DEAD and told != epoch and not self._waits_for_files():
                        told = epoch
                        self._fail_owner(self)
        except BaseException:  # noqa: BLE001  reported; without the monitor, the rest goes on
            sys.excepthook(*sys.exc_info())
        finally:
            _SERVANTS.discard(ident)
            simulated.worlds.pop(ident, None)
            self._gone.rouse()

    def _serve(self) -> None:
        """After the end: what is due happens in its time. Under the lock."""
        if self._serving and not self._rung:
            self._rung = True
            self._bell.rouse()
        if not self._serving:
            self._serving = True
            self._members += 1
            start_for_real(self._go_on)

    def _go_on(self) -> None:
        ident = this_thread()
        simulated.worlds[ident] = self
        _SERVANTS.add(ident)
        try:
            while True:
                with self._lock:
                    first = self._first()
                    if first is None:
                        self._serving = False
                        return
                    self._now = self.monotonic()
                self._happen()
                if self._bell.rest(max(0.0, first.deadline - self._now)):
                    with self._lock:
                        self._rung = False
        finally:
            _SERVANTS.discard(ident)
            simulated.worlds.pop(ident, None)
            self._departs()

    def _departs(self) -> None:
        """A member is gone; the last one leaves nothing behind."""
        with self._lock:
            self._members -= 1
            last = not self._members
        if last:
            uninstall()


def _asleep(members: frozenset[Any], before: dict[int, Any], frames: dict[int, Any], *, still: bool) -> bool:
    """Do these members sleep outside of the library, until another thread wakes them?

    Frames of threads that run are not looked into: the innermost one must have stayed the same, and the system must not
    say that the thread runs, since one that has been woken may take long to get a processor. Of those that have been
    `still` for a while the system is asked too who waits for a lock; unless a thread is at work that is not Python's:
    they may wait for that.
    """
    asks = still and not others_run({_native_id(ident) for ident in frames})
    return all(
        member in frames
        and before.get(member) is frames[member]
        and not waits_for_ending(frames[member], frames)
        and (
            (sleeps_for_others(frames[member]) and not runs(_native_id(member)))
            or (asks and waits_in_futex(_native_id(member)))
        )
        for member in members
    )


def _native_id(ident: int) -> int | None:
    return getattr(thread_with(ident), "native_id", None)
