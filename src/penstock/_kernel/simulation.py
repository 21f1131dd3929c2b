"""The other side of the seam: runtimes in which a world made for the purpose takes the machine's place.

A thread that is in a world parks there, has its time, and starts its tasks there. All other threads go on in the real
one, so that a simulation and the rest of the program do not disturb each other.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import LOCKS, dict_get, thread_ident
    from penstock._kernel.loops import interrupter_for, new_task_waiter, refuse_in_loop
    from penstock._kernel.operations import FOREVER
    from penstock._kernel.seam import SEAM, Interruption, Runtime
    from penstock._kernel.threads import ThreadWaiter, new_thread_waiter
    from penstock._kernel.waiters import Waiter

if TYPE_CHECKING:
    from collections.abc import Callable


class Abandoned(BaseException):
    """The simulated world is over, and its tasks are unwound. Nothing that they do meanwhile counts."""


class World:
    """What a simulation decides. Each method is called by a thread that is in this world, unless it says otherwise."""

    exempt = True
    """May threads that are in it call what acts in the real world?"""

    def monotonic(self) -> float:
        """The time, in seconds."""
        raise NotImplementedError

    def park(self, waiter: SimulatedWaiter, deadline: float) -> None:
        """Return once `waiter` has been woken, or the clock has passed `deadline`."""
        raise NotImplementedError

    def wake(self, waiter: SimulatedWaiter) -> None:
        """Let whoever is parked with `waiter`, or is about to be, go on. Called by any thread."""
        raise NotImplementedError

    def redeliver(self, error: BaseException) -> None:
        """`error` came in an operation that has happened: raise it at the next opportunity."""
        raise NotImplementedError

    def start(self, function: Callable[[], object]) -> None:
        """Call `function` in a thread of its own, in this world."""
        raise NotImplementedError

    def arm(self, timer: Any, deadline: float) -> None:
        """Let the timer `expire` at `deadline`, once; at `deadline` instead, if it is armed already."""
        raise NotImplementedError

    def disarm(self, timer: Any) -> bool:
        """Forget `timer`. False if it was not armed. Called by any thread."""
        raise NotImplementedError

    def give_way(self) -> None:
        """The calling thread sleeps for no time at all."""
        raise NotImplementedError

    def choose(self, n: int) -> int:
        """One of range(n)."""
        raise NotImplementedError


class SimulatedWaiter(Waiter):
    """A parked operation of a thread in a world."""

    __slots__ = ("seat", "world")

    def __init__(self, world: Any) -> None:
        Waiter.__init__(self)
        self.world = world
        self.seat: Any = None
        """Whatever the world keeps here."""

    def park(self, deadline: float) -> None:
        self.world.park(self, deadline)

    def wake(self) -> bool:
        self.world.wake(self)
        return True

    def redeliver(self, error: BaseException) -> None:
        self.world.redeliver(error)


class Simulated(Runtime):
    """Asks the world that the calling thread is in; the real runtime, if it is in none."""

    __slots__ = ("installed", "real", "worlds")

    def __init__(self, real: Runtime) -> None:
        self.real = real
        self.worlds: dict[int, Any] = {}
        """The world of each thread that is in one, by its identifier."""
        self.installed = 0
        """By how many."""

    def world(self) -> Any:
        """The calling thread's world, or None."""
        return dict_get(self.worlds, thread_ident(), None)

    def monotonic(self) -> float:
        world = self.world()
        if world is None:
            return self.real.monotonic()
        return float(world.monotonic())

    def thread_waiter(self, operation: str, instead: str) -> Waiter:
        world = self.world()
        if world is None:
            return self.real.thread_waiter(operation, instead)
        if instead:
            refuse_in_loop(operation, instead)
        return SimulatedWaiter(world)

    def task_waiter(self) -> Waiter:
        return new_task_waiter()

    def interruption(self, scope: Any) -> Interruption:
        return interrupter_for(scope)

    def start(self, function: Callable[[], object]) -> None:
        world = self.world()
        if world is None:
            self.real.start(function)
        else:
            world.start(function)

    def arm(self, timer: Any, deadline: float) -> None:
        world = self.world()
        if world is None:
            self.real.arm(timer, deadline)
        else:
            world.arm(timer, deadline)

    def disarm(self, timer: Any) -> bool:
        if self.real.disarm(timer):
            return True
        world = self.world()
        return world is not None and bool(world.disarm(timer))

    def give_way(self) -> None:
        world = self.world()
        if world is not None:
            world.give_way()

    def choose(self, n: int) -> int:
        world = self.world()
        if world is None:
            return self.real.choose(n)
        chosen = int(world.choose(n))
        return chosen if 0 <= chosen < n else 0


class Seat:
    """Where one thread at a time rests until another rouses it, once for each time.

    With the GIL a lock of Python's costs least, on one processor. Free-threaded, it takes ten times as long as a parker
    of ours, which spins a little first.
    """

    __slots__ = ("_next", "_occupied", "_roused")

    def __init__(self) -> None:
        self._roused = False
        self._next: ThreadWaiter | None = None
        self._occupied: Any = None
        if cython.compiled and LOCKS:
            self._next = new_thread_waiter()
        else:
            self._occupied = _thread.allocate_lock()
            self._occupied.acquire()

    def rest(self, seconds: float = -1.0) -> bool:
        """Rest until roused. False: not before `seconds` have passed; negative: for ever."""
        sleeper = self._next
        if sleeper is None:
            return bool(self._occupied.acquire(True, seconds))
        sleeper.park(SIMULATED.real.monotonic() + seconds if seconds >= 0.0 else FOREVER)
        if not self._roused:
            return False
        self._roused = False
        self._next = new_thread_waiter()  # Nobody rouses twice before this thread has been seen to go on.
        return True

    def rouse(self) -> None:
        """Let whoever rests here go on, or the next who comes."""
        sleeper = self._next
        if sleeper is None:
            self._occupied.release()
        else:
            self._roused = True
            sleeper.wake()


SIMULATED = Simulated(SEAM.runtime)
simulated = SIMULATED  # For the code above the kernel.


def install() -> None:
    """From now on threads may be in worlds."""
    SIMULATED.installed += 1
    SEAM.runtime = SIMULATED


def uninstall() -> None:
    """Once for each `install`: with the last one, all threads are in the real world again."""
    SIMULATED.installed -= 1
    if not SIMULATED.installed:
        SEAM.runtime = SIMULATED.real


def watch_select(watcher: Any) -> None:
    """Let `watcher` be called in place of `select`; None: nobody any more."""
    SEAM.select_watcher = watcher


def in_use() -> bool:
    """Is any thread in another world?"""
    return SEAM.runtime is SIMULATED and bool(SIMULATED.worlds)


def start_for_real(function: Callable[[], object]) -> None:
    """Call `function` in a thread of the pool, whatever world the caller is in."""
    SIMULATED.real.start(function)


def real_clock() -> float:
    """The time, whatever world the caller is in."""
    return SIMULATED.real.monotonic()


def choose_for_real(n: int) -> int:
    """One of range(n), by chance."""
    return SIMULATED.real.choose(n)


def expire(timer: Any) -> None:
    """Let an armed timer do what it does at its deadline."""
    timer.expire()


def operation_of(waiter: Waiter) -> str:
    """The name of the operation that a parked waiter is for."""
    return waiter._operation or ""
