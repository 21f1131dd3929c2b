"""Locks: mutex, semaphore, read/write mutex, condition.

Invariants (each guarded by the object's lock)
  L1. Gate (semaphore, read/write mutex): strictly first come, first served. While somebody queues, the first in the
      queue does not fit; whoever changes that lets in as many as fit now (`_settle`).
  L2. Mutex: after Go's `sync.Mutex`. Released while somebody queues, it is handed to the first if that one has waited
      for a millisecond; otherwise it is free, and the first is woken to try again, before all others, unless one woken
      so is still on its way (`_waking`). While it is free and somebody queues, one is on its way.
  L3. Condition: a notification reaches a waiter that goes on because of it; one that gives up instead passes it on.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import ambient_bind, ambient_get, lock_drop, lock_take, thread_ident
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import deadline_after, park
    from penstock._kernel.scopes import AMBIENT
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import Node, Queue, Source, Waiter, chained, new_node, wake_all

    READ, WRITE = 1, 2  # The kinds of node at a read/write mutex.

ambient_bind(AMBIENT)

STARVING = 1e-3


class Gate(Source):
    """Something that tasks enter in order. Subclasses say who fits."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        Source.__init__(self)
        self._queue = Queue()

    def _admits(self, kind: int, amount: int) -> bool:
        """Under the lock: does such a one fit now?"""
        raise NotImplementedError

    def _admit(self, kind: int, amount: int, ident: int) -> None:
        """Under the lock: let one in, on behalf of that thread."""
        raise NotImplementedError

    def _readmit(self, kind: int, amount: int) -> None:
        """Under the lock: let one out that had been let in."""
        raise NotImplementedError

    def _settle(self) -> Waiter | None:
        first: Waiter | None = None
        last: Waiter | None = None
        while True:
            node = self._queue.next_waiting()
            if node is None or not self._admits(node.kind, node.amount):
                return first
            self._queue.remove(node)
            if node.fire():
                self._admit(node.kind, node.amount, node.waiter._ident)
                first = chained(first, last, node.waiter)
                last = node.waiter

    def _departed(self, node: Node) -> Waiter | None:
        return self._settle()

    def take_back(self, node: Node) -> bool:
        lock_take(self._lock)
        try:
            self._readmit(node.kind, node.amount)
            chain = self._settle()
        finally:
            lock_drop(self._lock)
        wake_all(chain)
        return True

    @cython.final
    def try_enter(self, kind: int, amount: int) -> bool:
        """Enter if one fits and nobody queues."""
        entered = False
        lock_take(self._lock)
        try:
            if (self._queue.first is None or self._queue.next_waiting() is None) and self._admits(kind, amount):
                self._admit(kind, amount, thread_ident())
                entered = True
        finally:
            lock_drop(self._lock)
        return entered

    @cython.final
    def enter_now(self, kind: int, amount: int) -> bool:
        """As `try_enter`, under the ambient context."""
        scope = ambient_get()
        if scope is not None:
            scope.require()
        return self.try_enter(kind, amount)

    def _enter_or_queue(self, node: Node) -> bool:
        entered = False
        lock_take(self._lock)
        try:
            if self._queue.next_waiting() is None and self._admits(node.kind, node.amount):
                self._admit(node.kind, node.amount, node.waiter._ident)
                entered = True
            else:
                self._queue.append(node)
        finally:
            lock_drop(self._lock)
        return entered

    def enter(self, kind: int, amount: int, timeout: float | None, operation: str, instead: str, shielded: bool) -> Any:
        """Park until let in."""
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError(f"{operation} timed out")
        waiter = SEAM.runtime.thread_waiter(operation, instead)
        node = new_node(waiter, self, kind, None)
        node.amount = amount
        if self._enter_or_queue(node):
            waiter.discard_nodes(node)
        else:
            park(waiter, deadline, operation, shielded)
        return None

    def begin_enter(self, kind: int, amount: int, timeout: float | None, operation: str, shielded: bool) -> Any:
        """For an asyncio task: None if it has been let in, else a waiter to await and give to `finish_enter`."""
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError(f"{operation} timed out")
        waiter = SEAM.runtime.task_waiter()
        node = new_node(waiter, self, kind, None)
        node.amount = amount
        if self._enter_or_queue(node):
            waiter.discard_nodes(node)
            return None
        waiter.prepare(deadline, operation, shielded)
        return waiter

    def finish_enter(self, waiter: TaskWaiter) -> Any:
        waiter.settled()

    def waiting(self) -> int:
        """How many tasks queue."""
        lock_take(self._lock)
        count = self._queue.count()
        lock_drop(self._lock)
        return count


ONE = 1  # Nearly always what is asked for: known without being looked into.


class SemaphoreCore(Gate):
    """A weighted semaphore, without its asyncio colour."""

    __slots__ = ("_free", "_size")

    def __init__(self, n: int) -> None:
        Gate.__init__(self)
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"a semaphore's size must be an integer, not {n!r}")
        if n < 0:
            raise ValueError(f"a semaphore's size must be 0 or more, not {n}")
        self._size = self._free = min(n, (1 << 62))

    def _admits(self, kind: int, amount: int) -> bool:
        return self._free >= amount

    def _admit(self, kind: int, amount: int, ident: int) -> None:
        self._free -= amount

    def _readmit(self, kind: int, amount: int) -> None:
        self._free += amount

    @cython.final
    def amount(self, n: int) -> int:
        if type(n) is not int:
            raise TypeError(f"a semaphore is acquired and released by integers, not {n!r}")
        try:
            amount = n
        except OverflowError:  # Compiled, where it is no C integer: as impossible as any.
            amount = -1 if n < 0 else (1 << 62) + 1
        if amount < 0:
            raise ValueError(f"a semaphore is acquired and released by 0 or more, not {n}")
        return amount

    def possible(self, n: int) -> int:
        if n > self._size:
            raise ValueError(f"acquiring {n} of a semaphore of {self._size} would wait for ever")
        return n

    def take_now(self, n: int) -> bool:
        """As `acquire_now`, for the asyncio colour."""
        return self.acquire_now(n)

    @cython.final
    def acquire_now(self, n: int) -> bool:
        """Acquire `n` under the ambient context, if that needs no wait. ValueError if it never can."""
        amount = 1 if n is ONE else self.amount(n)
        if amount > self._size:
            self.possible(n)
        scope = ambient_get()
        if scope is not None:
            scope.require()
        return self.take_free(amount) or self.try_enter(0, amount)

    @cython.final
    def take_free(self, amount: int) -> bool:
        """The usual case of `try_enter`, without asking anybody: nobody queues, and enough are free."""
        taken = False
        lock_take(self._lock)
        if self._queue.first is None and self._free >= amount:
            self._free -= amount
            taken = True
        lock_drop(self._lock)
        return taken

    def acquire(self, n: int = 1, timeout: float | None = None) -> Any:
        """Acquire `n`; wait until they are free, behind those who wait already.

        Raises `ValueError` for more than there are, `TimeoutError` after `timeout` seconds and `Cancelled` if the
        ambient context ends, in each case without having acquired any.
        """
        if not self.acquire_now(n):
            self.enter(0, n, timeout, "Semaphore.acquire", "Semaphore.aacquire", False)

    def enter_in_thread(self, n: int, timeout: float | None, operation: str, instead: str) -> Any:
        """As `acquire`, on behalf of another operation."""
        self.enter(0, n, timeout, operation, instead, False)

    def enter_shielded(self, timeout: float | None, operation: str) -> bool:
        """Acquire one, in any thread, whatever becomes of its context. False: not before the timeout."""
        if self.try_enter(0, 1):
            return True
        try:
            self.enter(0, 1, timeout, operation, "", True)
        except TimeoutError:
            return False
        return True

    def begin_acquire(self, n: int, timeout: float | None) -> Any:
        return self.begin_enter(0, n, timeout, "Semaphore.aacquire", False)

    def try_acquire(self, n: int = 1) -> bool:
        """Acquire `n` if they are free and nobody waits. False otherwise, also for more than there are."""
        return self.try_enter(0, self.amount(n))

    def release(self, n: int = 1) -> Any:
        """Release `n`. RuntimeError if fewer are held."""
        self.give(1 if n is ONE else self.amount(n))

    @cython.final
    def give_free(self, amount: int) -> bool:
        """The usual case of `give`: nobody queues, and so many are held."""
        given = False
        lock_take(self._lock)
        if self._queue.first is None and self._size - self._free >= amount:
            self._free += amount
            given = True
        lock_drop(self._lock)
        return given

    @cython.final
    def give(self, amount: int) -> bool:
        if self.give_free(amount):
            return True
        chain = None
        lock_take(self._lock)
        try:
            held = self._size - self._free
            if amount <= held:
                self._free += amount
                if self._queue.first is not None:
                    chain = self._settle()
        finally:
            lock_drop(self._lock)
        if amount > held:
            raise RuntimeError(f"released too much: {amount}, and {held} are held")
        if chain is not None:
            wake_all(chain)
        return True

    @property
    def size(self) -> int:
        """How many there are, held or free."""
        return self._size

    @property
    def free(self) -> int:
        """How many are free now."""
        lock_take(self._lock)
        free = self._free
        lock_drop(self._lock)
        return free

    def __enter__(self) -> Any:
        if not self.acquire_now(1):
            self.enter(0, 1, None, "Semaphore.acquire", "Semaphore.aacquire", False)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.give(1)


class RWMutexCore(Gate):
    """A read/write mutex, without its asyncio colour."""

    __slots__ = ("_holder", "_readers", "_writing")

    def __init__(self) -> None:
        Gate.__init__(self)
        self._holder = 0  # The thread that was admitted last, for reports.
        self._readers = 0
        self._writing = False

    def _admits(self, kind: int, amount: int) -> bool:
        return not self._writing and (kind == READ or self._readers == 0)

    def _admit(self, kind: int, amount: int, ident: int) -> None:
        self._holder = ident
        if kind == READ:
            self._readers += 1
        else:
            self._writing = True

    def _readmit(self, kind: int, amount: int) -> None:
        if kind == READ:
            self._readers -= 1
        else:
            self._writing = False

    def take_now(self, kind: int) -> bool:
        return self.enter_now(kind, 1)

    def try_take(self, kind: int) -> bool:
        return self.try_enter(kind, 1)

    def take(self, kind: int, timeout: float | None, shielded: bool) -> Any:
        if kind == READ:
            return self.enter(kind, 1, timeout, "RWMutex.acquire_read", "RWMutex.aacquire_read", shielded)
        return self.enter(kind, 1, timeout, "RWMutex.acquire_write", "RWMutex.aacquire_write", shielded)

    def begin_take(self, kind: int, timeout: float | None, shielded: bool) -> Any:
        operation = "RWMutex.aacquire_read" if kind == READ else "RWMutex.aacquire_write"
        return self.begin_enter(kind, 1, timeout, operation, shielded)

    def give(self, kind: int) -> Any:
        chain = None
        lock_take(self._lock)
        try:
            held = self._readers > 0 if kind == READ else self._writing
            if held:
                self._readmit(kind, 1)
                if self._queue.first is not None:
                    chain = self._settle()
        finally:
            lock_drop(self._lock)
        if not held:
            what = "reading" if kind == READ else "writing"
            raise RuntimeError(f"release of a read/write mutex that nobody holds for {what}")
        if chain is not None:
            wake_all(chain)

    @property
    def readers(self) -> int:
        """How many hold it for reading."""
        lock_take(self._lock)
        readers = self._readers
        lock_drop(self._lock)
        return readers

    @property
    def writing(self) -> bool:
        """Does somebody hold it for writing?"""
        lock_take(self._lock)
        writing = self._writing
        lock_drop(self._lock)
        return writing


class MutexCore(Source):
    """A mutual exclusion lock, without its asyncio colour."""

    __slots__ = ("_holder", "_locked", "_queue", "_waking")

    def __init__(self) -> None:
        Source.__init__(self)
        self._holder = 0  # The thread that locked it last, for reports.
        self._locked = False
        self._waking = False
        self._queue = Queue()

    def try_acquire(self) -> bool:
        """Lock if it is free."""
        return self.try_lock()

    @cython.final
    def try_lock(self) -> bool:
        taken = False
        lock_take(self._lock)
        if not self._locked:
            self._locked = taken = True
            self._holder = thread_ident()
        lock_drop(self._lock)
        return taken

    def take_now(self) -> bool:
        """As `lock_now`, for the asyncio colour."""
        return self.lock_now()

    @cython.final
    def lock_now(self) -> bool:
        """Lock if it is free, under the ambient context."""
        scope = ambient_get()
        if scope is not None:
            scope.require()
        return self.try_lock()

    def acquire(self, timeout: float | None = None) -> Any:
        """Lock; wait while somebody else has it.

        Raises `TimeoutError` after `timeout` seconds and `Cancelled` if the ambient context ends, without having it.
        """
        if not self.lock_now():
            self.lock(timeout, False)

    def release(self) -> None:
        """Unlock; any task may. RuntimeError if it is not locked."""
        self.unlock()

    @cython.final
    def unlock(self) -> bool:
        waiter = None
        lock_take(self._lock)
        try:
            held = self._locked
            if held:
                if self._queue.first is None:
                    self._locked = False
                else:
                    waiter = self._pass_on()
        finally:
            lock_drop(self._lock)
        if not held:
            raise RuntimeError("release of a mutex that nobody holds")
        if waiter is not None:
            wake_all(waiter)
        return True

    def _pass_on(self) -> Waiter | None:
        """Under the lock: give the mutex up to those who queue (L2). Who is to be woken."""
        while True:
            node = self._queue.next_waiting()
            if node is None:
                self._locked = False
                return None
            if SEAM.runtime.monotonic() - node.since >= STARVING:
                self._queue.remove(node)
                if node.fire():
                    node.ok = True
                    self._locked = True
                    self._holder = node.waiter._ident
                    return node.waiter
            else:
                self._locked = False
                if self._waking:
                    return None
                self._queue.remove(node)
                if node.fire():
                    node.ok = False
                    self._waking = True
                    return node.waiter

    def take_back(self, node: Node) -> bool:
        waiter = None
        lock_take(self._lock)
        try:
            if not node.ok:
                self._waking = False
            if node.ok or not self._locked:
                waiter = self._pass_on()
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return True

    def _enter_or_queue(self, node: Node, again: bool) -> bool:
        entered = False
        lock_take(self._lock)
        try:
            if again:
                self._waking = False
            if not self._locked:
                self._locked = entered = True
                self._holder = node.waiter._ident
            elif again:
                self._queue.prepend(node)
            else:
                self._queue.append(node)
        finally:
            lock_drop(self._lock)
        return entered

    def take(self, timeout: float | None, shielded: bool) -> None:
        """As `lock`, for the code above the kernel."""
        self.lock(timeout, shielded)

    @cython.final
    def lock(self, timeout: float | None, shielded: bool) -> Any:
        """Park until the mutex is this task's."""
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError("Mutex.acquire timed out")
        again = False
        since = SEAM.runtime.monotonic()
        while True:
            waiter = SEAM.runtime.thread_waiter("Mutex.acquire", "Mutex.aacquire")
            node = new_node(waiter, self, 0, None)
            node.since = since
            if self._enter_or_queue(node, again):
                waiter.discard_nodes(node)
                return None
            node = park(waiter, deadline, "Mutex.acquire", shielded)
            if node.ok:
                return None
            again = True

    def begin_take(self, deadline: float, since: float, again: bool, shielded: bool) -> Any:
        """For an asyncio task: None if it has the mutex, else a waiter to await and give to `finish_take`.

        Called `again` where that says that the mutex may be free.
        """
        waiter = SEAM.runtime.task_waiter()
        node = new_node(waiter, self, 0, None)
        node.since = since
        if self._enter_or_queue(node, again):
            waiter.discard_nodes(node)
            return None
        waiter.prepare(deadline, "Mutex.aacquire", shielded)
        return waiter

    def finish_take(self, waiter: TaskWaiter) -> bool:
        """True: the task has the mutex. False: it is to try again."""
        node = waiter.settled()
        return bool(node.ok)

    @property
    def locked(self) -> bool:
        """Does somebody hold it?"""
        lock_take(self._lock)
        locked = self._locked
        lock_drop(self._lock)
        return locked

    def waiting(self) -> int:
        """How many tasks queue."""
        lock_take(self._lock)
        count = self._queue.count()
        lock_drop(self._lock)
        return count

    def __enter__(self) -> Any:
        if not self.lock_now():
            self.lock(None, False)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.unlock()


class ConditionCore(Source):
    """Tasks that wait to be notified."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        Source.__init__(self)
        self._queue = Queue()

    def _fire(self, n: int) -> Waiter | None:
        first: Waiter | None = None
        last: Waiter | None = None
        while n > 0:
            node = self._queue.fire_next()
            if node is None:
                break
            first = chained(first, last, node.waiter)
            last = node.waiter
            n -= 1
        return first

    def notify_some(self, n: int) -> Any:
        lock_take(self._lock)
        try:
            chain = self._fire(n)
        finally:
            lock_drop(self._lock)
        wake_all(chain)
        return None

    def notify(self, n: int = 1) -> None:
        """Let the first `n` waiting tasks go on. The lock need not be held."""
        if type(n) is not int:
            raise TypeError(f"a condition notifies an integer number of tasks, not {n!r}")
        if n < 0:
            raise ValueError(f"a condition notifies 0 tasks or more, not {n}")
        self.notify_some(min(n, (1 << 62)))

    def notify_all(self) -> None:
        """Let all waiting tasks go on. The lock need not be held."""
        self.notify_some(1 << 62)

    def take_back(self, node: Node) -> bool:
        self.notify_some(1)
        return True

    def stand(self, waiter: Waiter) -> None:
        node = new_node(waiter, self, 0, None)
        lock_take(self._lock)
        self._queue.append(node)
        lock_drop(self._lock)

    def begin_wait_in_thread(self) -> Waiter:
        """Stand in the queue: notifications from now on count."""
        waiter = SEAM.runtime.thread_waiter("Condition.wait", "Condition.wait_async")
        self.stand(waiter)
        return waiter

    def wait_in_thread(self, waiter: Waiter, deadline: float) -> None:
        park(waiter, deadline, "Condition.wait")

    def begin_wait(self, deadline: float) -> Any:
        """As `begin_wait_in_thread`, for an asyncio task."""
        waiter = SEAM.runtime.task_waiter()
        self.stand(waiter)
        waiter.prepare(deadline, "Condition.wait_async", False)
        return waiter

    def finish_wait(self, waiter: TaskWaiter) -> None:
        waiter.settled()

    def abandon(self, waiter: Waiter) -> None:
        """Leave the queue without waiting."""
        waiter.retract()

    def waiting(self) -> int:
        """How many tasks wait."""
        lock_take(self._lock)
        count = self._queue.count()
        lock_drop(self._lock)
        return count


def deadline_in(timeout: float | None) -> float:
    """As `deadline_after`, for the code above the kernel."""
    return deadline_after(timeout)


def now() -> float:
    """The time on the clock of all deadlines, for the code above the kernel."""
    return SEAM.runtime.monotonic()
