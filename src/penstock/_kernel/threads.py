"""Threads: how one parks, the pool that runs tasks, and the real runtime.

Invariants of the pool (guarded by its lock)
  P1. An idle worker stands in the stack `_idle` and sleeps on its `_sleeper`; who takes it out gives it a job and wakes
      it. The worker used last is used first, so that those not needed grow old.
  P2. A worker that has been idle for IDLE_SECONDS takes itself out and ends.
Workers are daemon threads: they do not hold up the interpreter's exit.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextvars import Context
from typing import TYPE_CHECKING, Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        Lock,
        Parker,
        disown,
        lock_drop,
        lock_take,
        monotonic,
        parker_free,
        parker_park,
        parker_sleepers,
        parker_wake,
        parking_after_fork,
        raise_soon,
        random_below,
    )
    from penstock._kernel.loops import interrupter_for, new_task_waiter, refuse_in_loop
    from penstock._kernel.operations import FOREVER
    from penstock._kernel.seam import SEAM, Interruption, Runtime
    from penstock._kernel.timers import TIMERS
    from penstock._kernel.waiters import Node, Waiter

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from _interpreters import list_all as list_interpreters  # type: ignore[import-not-found]
except ImportError:
    try:
        from _xxsubinterpreters import list_all as list_interpreters  # type: ignore[import-not-found]
    except ImportError:

        def list_interpreters() -> list[Any]:
            return []


HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
IDLE_SECONDS = 10.0

# From Python 3.14 on a thread may begin in a copy of its starter's context, and keep it for as long as it lives.
INHERITS_CONTEXT = sys.version_info >= (3, 14)

FIRST_LOOK = 0.5

main_thread = threading.main_thread().ident or 0


class Lookout:
    """Who looks now and then, while the main thread is parked for long, whether anybody is left to wake it."""

    __slots__ = ("look",)

    def __init__(self) -> None:
        self.look: Any = None
        """Given the seconds slept: those until the next look, or the error that the parked operation shall raise."""


LOOKOUT = Lookout()


class ThreadWaiter(Waiter):
    """A parked operation of a thread."""

    __slots__ = ("_in_main_thread", "_parker")

    def __init__(self) -> None:
        Waiter.__init__(self)
        if not cython.compiled:
            self._parker = Parker()

    def add(self, node: Node) -> None:
        disown(node)
        Waiter.add(self, node)

    def park(self, deadline: float) -> None:
        if self._in_main_thread and deadline == FOREVER and LOOKOUT.look is not None:
            self._park_looking()
        else:
            parker_park(self._parker, deadline, self._in_main_thread, not self._patient)

    def _park_looking(self) -> None:
        seconds = FIRST_LOOK
        while not parker_park(self._parker, monotonic() + seconds, True, not self._patient):
            answer = LOOKOUT.look(seconds)
            if not isinstance(answer, BaseException):
                seconds = answer
            elif self.fail(answer):
                return

    def wake(self) -> bool:
        parker_wake(self._parker)
        return True

    def redeliver(self, error: BaseException) -> None:
        raise_soon(error)

    def __dealloc__(self) -> None:
        parker_free(self._parker)


def new_thread_waiter() -> ThreadWaiter:
    """A waiter for the calling thread."""
    waiter = ThreadWaiter.__new__(ThreadWaiter)
    if not cython.compiled:
        waiter.__init__()  # type: ignore[misc]  # compiled, a new waiter is as its __init__ makes it
    waiter.begin()
    waiter._in_main_thread = waiter._ident == main_thread
    disown(waiter)
    return waiter


class Worker:
    """One thread of the pool, and its next job."""

    __slots__ = ("_below", "_job", "_sleeper")

    def __init__(self) -> None:
        self._job: Any = None
        self._sleeper: ThreadWaiter | None = None
        self._below: Worker | None = None


class Workers:
    """The pool: as many threads as there are jobs at work, reused."""

    __slots__ = ("_count", "_idle", "_lock")

    def __init__(self) -> None:
        if not cython.compiled:
            self._lock = Lock()
        self._idle: Worker | None = None
        self._count = 0

    def start(self, function: Callable[[], object]) -> None:
        """Call `function` in an idle thread, or in a new one."""
        sleeper = None
        lock_take(self._lock)
        try:
            worker = self._idle
            if worker is not None:
                self._idle = worker._below
                worker._below = None
                worker._job = function
                sleeper = worker._sleeper
            else:
                self._count += 1
        finally:
            lock_drop(self._lock)
        if sleeper is not None:
            sleeper.wake()
            return
        try:
            # In a context of its own: what a task inherits is the starter's of that task, not of the thread's first.
            worker = Worker()
            worker._job = function  # Not an argument: those a thread keeps until it ends.
            target = Context().run
            options: dict[str, Any] = {"context": Context()} if INHERITS_CONTEXT else {}
            args = (self._work, worker)
            start_thread(threading.Thread(target=target, args=args, name="penstock-worker", daemon=True, **options))
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        lock_take(self._lock)
        self._count -= 1
        lock_drop(self._lock)

    def _work(self, worker: Worker) -> None:
        while True:
            function = worker._job
            worker._job = None
            try:
                function()
            except BaseException:  # noqa: BLE001  reported; the worker goes on
                sys.excepthook(*sys.exc_info())
            function = None
            sleeper = new_thread_waiter()
            lock_take(self._lock)
            worker._sleeper = sleeper
            worker._below = self._idle
            self._idle = worker
            lock_drop(self._lock)
            sleeper.park(SEAM.runtime.monotonic() + IDLE_SECONDS)
            if worker._job is None and self._retire(worker):
                return

    def _retire(self, worker: Worker) -> bool:
        """Take an idle worker out of the pool. False: it has a job by now."""
        retired = False
        lock_take(self._lock)
        try:
            if worker._job is None:
                retired = True
                self._count -= 1
                if self._idle is worker:
                    self._idle = worker._below
                else:
                    above = self._idle
                    while above is not None and above._below is not worker:
                        above = above._below
                    if above is not None:
                        above._below = worker._below
        finally:
            lock_drop(self._lock)
        return retired

    def count(self) -> int:
        """How many threads there are."""
        return self._count

    def idle(self) -> list[int]:
        """Those without a job."""
        idents: list[int] = []
        lock_take(self._lock)
        worker = self._idle
        while worker is not None:
            idents.append(worker._sleeper._ident)
            worker = worker._below
        lock_drop(self._lock)
        return idents

    def before_fork(self) -> None:
        lock_take(self._lock)

    def after_fork(self) -> None:
        lock_drop(self._lock)

    def after_fork_in_child(self) -> None:
        """None of the threads has come along."""
        self._idle = None
        self._count = 0
        lock_drop(self._lock)


WORKERS = Workers()


class Real(Runtime):
    """The world as it is."""

    __slots__ = ()

    def monotonic(self) -> float:
        return monotonic()

    def thread_waiter(self, operation: str, instead: str) -> Waiter:
        if instead:
            refuse_in_loop(operation, instead)
        return new_thread_waiter()

    def task_waiter(self) -> Waiter:
        return new_task_waiter()

    def interruption(self, scope: Any) -> Interruption:
        return interrupter_for(scope)

    def start(self, function: Callable[[], object]) -> None:
        WORKERS.start(function)

    def arm(self, timer: Any, deadline: float) -> None:
        TIMERS.add(timer, deadline)

    def disarm(self, timer: Any) -> bool:
        return TIMERS.remove(timer)

    def give_way(self) -> None:
        """The interpreter sees to that."""

    def choose(self, n: int) -> int:
        return random_below(n)


def start(function: Callable[[], object]) -> None:
    """Call `function` in a thread of its own, soon."""
    SEAM.runtime.start(function)


def worker_count() -> int:
    """How many threads the pool has, at work or idle."""
    return WORKERS.count()


def idle_workers() -> list[int]:
    """The pool's threads without a job."""
    return WORKERS.idle()


def sleeping_threads() -> int:
    """How many threads are asleep in the library."""
    return parker_sleepers()


def main_thread_ident() -> int:
    """The main thread."""
    return main_thread


def look_out(look: Callable[[float], float | BaseException] | None) -> None:
    """Let `look` be called now and then by the main thread while it is parked without a deadline: see `Lookout`."""
    LOOKOUT.look = look


def raise_at_next_instruction(error: BaseException) -> None:
    """Raise `error` in the calling thread, once the operation that it is in has returned."""
    raise_soon(error)


start_thread = threading.Thread.start  # Whatever stands there later, which is for threads of the program.

daemons: dict[int, int] = {}
"""The threads that `start_daemon` has started, each with the system's number of it."""


_FAULTS = {getattr(signal, name, None) for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGTRAP")}


def start_daemon(function: Callable[[], object], name: str) -> None:
    """Call `function` in a thread that is none of the pool's, in a context of its own, for those who only watch."""
    start_thread(threading.Thread(target=Context().run, args=(_watch, function), name=name, daemon=True))


def _watch(function: Callable[[], object]) -> None:
    if hasattr(signal, "pthread_sigmask"):  # A program that blocks a signal, to wait for it, must not meet it here.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
    ident = threading.get_ident()
    daemons[ident] = threading.get_native_id()
    try:
        function()
    finally:
        daemons.pop(ident, None)


def other_interpreters() -> bool:
    """Are there interpreters in the process beside this one?"""
    return len(list_interpreters()) > 1


def frames_of_threads() -> dict[int, Any]:
    """The innermost frame of each thread; of the calling thread alone, if there are other interpreters.

    `sys._current_frames` makes frame objects for their threads too. An interpreter with a GIL of its own frees those
    with an allocator that they do not come from, and the process aborts.
    """
    if HAS_GIL and other_interpreters():
        return {threading.get_ident(): sys._getframe()}
    return sys._current_frames()


def this_thread() -> int:
    """The identifier of the calling thread."""
    return threading.get_ident()


def thread_with(ident: int) -> Any:
    """The `threading.Thread` of a thread, if it has one. Takes no lock: for use in a signal handler."""
    return threading._active.get(ident)


def thread_registries() -> list[Any]:
    """The containers in which `threading` notes all threads."""
    return [threading._active, threading._dangling]


def starts_thread(method: Any) -> bool:
    """Is it the bound method with which a thread begins, and which the interpreter holds until the thread ends?"""
    return getattr(method, "__func__", None) is threading.Thread._bootstrap


def is_main_thread(ident: int) -> bool:
    """Is that the main thread?"""
    return ident == main_thread


def _after_fork_in_child() -> None:
    global main_thread
    main_thread = threading.main_thread().ident or 0
    parking_after_fork()
    daemons.clear()
    WORKERS.after_fork_in_child()


SEAM.runtime = Real()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=WORKERS.before_fork,
        after_in_parent=WORKERS.after_fork,
        after_in_child=_after_fork_in_child,
    )
