"""Locks and counters shared by threads and asyncio tasks, with the semantics of Go's `sync` package.

As in Go a lock has no owner: any task may release it. Each works in `with` and in `async with`.
"""

from __future__ import annotations

from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, TypeVarTuple, final, overload

from penstock._kernel.latch import Countdown
from penstock._kernel.locks import ConditionCore, MutexCore, RWMutexCore, SemaphoreCore, deadline_in, now
from penstock._kernel.simulation import Abandoned
from penstock.context import current
from penstock.errors import DeadlockError
from penstock.group import Task, await_parked, is_async, start_task, wait_for_zero

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType

    from penstock.context import Context

__all__ = ["Condition", "Mutex", "Once", "RWMutex", "Semaphore", "WaitGroup", "aonce_value", "once_value"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_READ, _WRITE = 1, 2


@final
class Mutex(MutexCore):
    """A mutual exclusion lock.

    A newcomer may take a free mutex before those who wait, since that is faster; but whoever has waited for a
    millisecond is handed it next (as Go's `sync.Mutex`).
    """

    __slots__ = ()

    async def aacquire(self, timeout: float | None = None) -> None:
        """As `acquire`, for an asyncio task to await."""
        if not self.take_now():
            await self._take(timeout)

    async def _take(self, timeout: float | None) -> None:
        deadline = deadline_in(timeout)
        if deadline == 0.0:
            raise TimeoutError("Mutex.aacquire timed out")
        since = now()
        again = False
        while True:
            waiter = self.begin_take(deadline, since, again, False)
            if waiter is None:
                return
            try:
                await waiter.future
            except BaseException as error:  # noqa: BLE001  raised again, unless the operation has happened
                waiter.interrupted(error)
            if self.finish_take(waiter):
                return
            again = True

    def _reacquire(self) -> None:
        _whatever_happens(self.take, None, True)

    async def _areacquire(self) -> None:
        await _awhatever_happens(self._take_shielded)

    async def _take_shielded(self) -> None:
        since = now()
        again = False
        while True:
            waiter = self.begin_take(deadline_in(None), since, again, True)
            if waiter is None:
                return
            try:
                await waiter.future
            except BaseException as error:  # noqa: BLE001
                waiter.interrupted(error)
            if self.finish_take(waiter):
                return
            again = True

    async def __aenter__(self) -> Mutex:
        if not self.take_now():
            await self._take(None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Mutex {'locked' if self.locked else 'free'} at {id(self):#x}>"


def _whatever_happens(operation: Callable[..., object], *args: Any) -> None:
    """Call `operation(*args)` until it succeeds; raise the last thing that interrupted it afterwards."""
    interrupted: BaseException | None = None
    while True:
        try:
            operation(*args)
            break
        except (Abandoned, DeadlockError):
            raise
        except BaseException as error:  # noqa: BLE001  raised below
            interrupted = error
    if interrupted is not None:
        try:
            raise interrupted
        finally:
            del interrupted


async def _awhatever_happens(operation: Callable[[], Awaitable[None]]) -> None:
    """As `_whatever_happens`, awaiting. A coroutine that is closed while the lock is somebody else's ends here, without
    running on: it would release what it does not hold."""
    interrupted: BaseException | None = None
    while True:
        try:
            await operation()
            break
        except (Abandoned, DeadlockError):
            raise
        except BaseException as error:  # noqa: BLE001  raised below
            interrupted = error
    if interrupted is not None:
        try:
            raise interrupted
        finally:
            del interrupted


@final
class Semaphore(SemaphoreCore):
    """A weighted semaphore of `n`: strictly first come, first served (as Go's `x/sync/semaphore`).

    One that asks for many and waits holds up those behind it who ask for few, so that it is served at all.
    """

    __slots__ = ()

    async def aacquire(self, n: int = 1, timeout: float | None = None) -> None:
        """As `acquire`, for an asyncio task to await."""
        if not self.take_now(n):
            await await_parked(self.begin_acquire(n, timeout), self.finish_enter)

    async def __aenter__(self) -> Semaphore:
        await self.aacquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Semaphore {self.free} of {self.size} free at {id(self):#x}>"


@final
class RWMutex(RWMutexCore):
    """A lock that many may hold for reading, or one for writing.

    Strictly first come, first served; readers next to each other in the queue go in together. So a reader that waits
    behind a writer does not overtake it, and a task that holds it for reading must not ask for it again.
    """

    __slots__ = ()

    def acquire_read(self, timeout: float | None = None) -> None:
        """Lock for reading; wait while somebody writes, or queues to. `TimeoutError` after `timeout` seconds."""
        if not self.take_now(_READ):
            self.take(_READ, timeout, False)

    async def aacquire_read(self, timeout: float | None = None) -> None:
        """As `acquire_read`, for an asyncio task to await."""
        if not self.take_now(_READ):
            await await_parked(self.begin_take(_READ, timeout, False), self.finish_enter)

    def try_acquire_read(self) -> bool:
        """Lock for reading if that needs no wait."""
        return self.try_take(_READ)

    def release_read(self) -> None:
        """Unlock what was locked for reading. RuntimeError if nobody holds it so."""
        self.give(_READ)

    def acquire_write(self, timeout: float | None = None) -> None:
        """Lock for writing; wait while anybody else has it. `TimeoutError` after `timeout` seconds."""
        if not self.take_now(_WRITE):
            self.take(_WRITE, timeout, False)

    async def aacquire_write(self, timeout: float | None = None) -> None:
        """As `acquire_write`, for an asyncio task to await."""
        if not self.take_now(_WRITE):
            await await_parked(self.begin_take(_WRITE, timeout, False), self.finish_enter)

    def try_acquire_write(self) -> bool:
        """Lock for writing if that needs no wait."""
        return self.try_take(_WRITE)

    def release_write(self) -> None:
        """Unlock what was locked for writing. RuntimeError if nobody holds it so."""
        self.give(_WRITE)

    def read(self) -> Side:
        """The reading side, as a lock: `with rw.read():`."""
        return Side(self, _READ)

    def write(self) -> Side:
        """The writing side, as a lock: `with rw.write():`."""
        return Side(self, _WRITE)

    def __repr__(self) -> str:
        state = "writing" if self.writing else f"{self.readers} reading"
        return f"<RWMutex {state} at {id(self):#x}>"


@final
class Side:
    """One side of a read/write mutex, with the methods of a `Mutex`."""

    __slots__ = ("__weakref__", "_kind", "_rw")

    def __init__(self, rw: RWMutex, kind: int) -> None:
        self._rw = rw
        self._kind = kind

    def acquire(self, timeout: float | None = None) -> None:
        """Lock this side."""
        if not self._rw.take_now(self._kind):
            self._rw.take(self._kind, timeout, False)

    async def aacquire(self, timeout: float | None = None) -> None:
        """As `acquire`, for an asyncio task to await."""
        if not self._rw.take_now(self._kind):
            await await_parked(self._rw.begin_take(self._kind, timeout, False), self._rw.finish_enter)

    def try_acquire(self) -> bool:
        """Lock this side if that needs no wait."""
        return self._rw.try_take(self._kind)

    def release(self) -> None:
        """Unlock this side."""
        self._rw.give(self._kind)

    @property
    def locked(self) -> bool:
        """Does somebody hold this side?"""
        return self._rw.writing if self._kind == _WRITE else self._rw.readers > 0

    def _reacquire(self) -> None:
        if not self._rw.try_take(self._kind):
            _whatever_happens(self._rw.take, self._kind, None, True)

    async def _areacquire(self) -> None:
        await _awhatever_happens(self._take_shielded)

    async def _take_shielded(self) -> None:
        await await_parked(self._rw.begin_take(self._kind, None, True), self._rw.finish_enter)

    def __enter__(self) -> Side:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def __aenter__(self) -> Side:
        await self.aacquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@final
class Condition(ConditionCore):
    """A place to wait, with a lock released, for what somebody else changes under the lock.

    Waiters are notified in the order of their arrival. There are no spurious wake-ups; still, what was true when the
    notification was sent may not be when the lock is held again, so wait in a loop.
    """

    __slots__ = ("lock",)

    def __init__(self, lock: Mutex | Side) -> None:
        if not isinstance(lock, Mutex | Side):
            raise TypeError(
                f"a condition is over a Mutex, or a side of an RWMutex (rw.read(), rw.write()); not {lock!r}"
            )
        super().__init__()
        self.lock = lock

    def wait(self, timeout: float | None = None) -> None:
        """Release the lock, wait for a notification, and take the lock again, whatever happens.

        Raises `RuntimeError` if the lock is not held, `TimeoutError` after `timeout` seconds and `Cancelled` if the
        ambient context ends; the lock is held then too, and a notification that had come goes to the next.
        """
        deadline = deadline_in(timeout)
        self._require_lock()
        waiter = self.begin_wait_in_thread()
        try:
            self.lock.release()
        except BaseException:
            self.abandon(waiter)
            raise
        try:
            self.wait_in_thread(waiter, deadline)
        except BaseException:
            self.abandon(waiter)
            self.lock._reacquire()
            raise
        try:
            self.lock._reacquire()
        except BaseException:
            self.notify()
            raise

    async def wait_async(self, timeout: float | None = None) -> None:
        """As `wait`, for an asyncio task to await."""
        deadline = deadline_in(timeout)
        self._require_lock()
        waiter = self.begin_wait(deadline)
        try:
            self.lock.release()
        except BaseException as error:  # noqa: BLE001  raised again
            waiter.interrupted(error)
        try:
            try:
                await waiter.future
            except BaseException as error:  # noqa: BLE001  raised again, unless the notification stands
                waiter.interrupted(error)
            self.finish_wait(waiter)
        except BaseException:
            await self.lock._areacquire()
            raise
        try:
            await self.lock._areacquire()
        except BaseException:
            self.notify()
            raise

    def _require_lock(self) -> None:
        if not self.lock.locked:
            raise RuntimeError("the condition's lock is not held; wait inside 'with lock:'")

    # A condition is also its lock.

    def __enter__(self) -> Condition:
        self.lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()

    async def __aenter__(self) -> Condition:
        await self.lock.aacquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lock.release()


@final
class WaitGroup:
    """Waits for a count to come down to zero (as Go's `sync.WaitGroup`)."""

    __slots__ = ("__weakref__", "_counter")

    def __init__(self) -> None:
        self._counter = Countdown(0)

    def add(self, n: int = 1) -> None:
        """Change the count by `n`. ValueError if it would become negative."""
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"a wait group counts by integers, not {n!r}")
        self._counter.add(n)

    def done(self) -> None:
        """Count one less."""
        self._counter.add(-1)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the count is zero."""
        self._counter.wait_in_thread(timeout, "WaitGroup.wait", "WaitGroup.wait_async", False)

    async def wait_async(self, timeout: float | None = None) -> None:
        """As `wait`, for an asyncio task to await."""
        await wait_for_zero(self._counter, timeout, "WaitGroup.wait_async")

    @overload
    def go(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> Task[T]: ...
    @overload
    def go(self, function: Callable[[*Ts], T], *args: *Ts) -> Task[T]: ...
    def go(self, function: Callable[[*Ts], Any], *args: *Ts) -> Task[Any]:
        """Start `function(*args)` as `penstock.go` does, counted until it has ended."""
        self._counter.add(1)
        try:
            return start_task(function, args, self)
        except BaseException:
            self._counter.add(-1)
            raise

    _collects: ClassVar[bool] = False

    def _member_ended(self, context: Context, error: BaseException | None) -> None:
        """The count is about the end alone."""

    def _member_gone(self, _context: Context) -> None:
        self._counter.add(-1)

    @property
    def count(self) -> int:
        """The count now."""
        return self._counter.count()

    def __repr__(self) -> str:
        return f"<WaitGroup {self.count} at {id(self):#x}>"


@final
class Once:
    """Does something once, however many tasks ask (as Go's `sync.Once`)."""

    __slots__ = ("__weakref__", "_claimed", "_pending")

    def __init__(self) -> None:
        self._claimed = MutexCore()
        self._pending = Countdown(1)

    def do(self, function: Callable[[], object]) -> None:
        """Call `function` if this is the first call; return once it has returned, whoever called it.

        If `function` raises, the first caller gets the error, and the call counts as done all the same. Calling `do`
        of the same object inside `function` would wait for ever.
        """
        current().check()
        if self._claimed.try_acquire():
            try:
                result = function()
                if iscoroutine(result):
                    result.close()
                    raise TypeError(f"{function!r} is an async function; use 'await once.ado()'")
            finally:
                self._pending.add(-1)
        else:
            self._pending.wait_in_thread(None, "Once.do", "Once.ado", False)

    async def ado(self, function: Callable[[], object]) -> None:
        """As `do`, for an asyncio task to await. `function` may be async."""
        current().check()
        if self._claimed.try_acquire():
            try:
                result = function()
                if is_async(function):
                    await result  # type: ignore[misc]
            finally:
                self._pending.add(-1)
        else:
            await wait_for_zero(self._pending, None, "Once.ado")

    @property
    def done(self) -> bool:
        """Has the call been made, and ended?"""
        return not self._pending.count()


def once_value(function: Callable[[], T]) -> Callable[[], T]:
    """A function that calls `function` the first time, and gives the same value, or raises the same error, ever after
    (as Go's `sync.OnceValue`)."""
    if is_async(function):
        raise TypeError(f"{function!r} is an async function; use aonce_value()")
    once = Once()
    outcome: list[Any] = [None, None]

    def call() -> None:
        try:
            outcome[0] = function()
        except BaseException as error:
            outcome[1] = error
            raise

    def value() -> T:
        once.do(call)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]  # type: ignore[no-any-return]

    return value


def aonce_value(function: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """As `once_value`, for an async function: gives an async function."""
    once = Once()
    outcome: list[Any] = [None, None]

    async def call() -> None:
        try:
            outcome[0] = await function()
        except BaseException as error:
            outcome[1] = error
            raise

    async def value() -> T:
        await once.ado(call)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]  # type: ignore[no-any-return]

    return value
