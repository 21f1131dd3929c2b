"""Parking an asyncio task. The only file of the library's core that knows asyncio.

A parked task awaits a future of its loop. A wake-up inside the loop sets that future at once; one from elsewhere goes
into a batch on its way into the loop (through its Port), and only the first of a batch writes to the loop's self-pipe.

Invariants
  L1. A future is touched by the thread that runs its loop alone.
  L2. A batch that is not empty has `_drain` scheduled, or its loop is closed. A port refers to its batch weakly: a loop
      that is closed, or dropped, with wake-ups in it drops the batch.
  L3. Who finds a loop closed, and a batch that is dropped, gives back what was handed to the loop's tasks
      (`Waiter.retract`): they will not run again.
  L4. An interrupter that has been left refers to no asyncio task, so that others, who may still have it, let none end
      in a thread that is not its loop's: free-threaded, CPython 3.14.5 crashes when it collects garbage in that instant
      (CPython issue 153809).
"""

from __future__ import annotations

import sys
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        Atomic,
        Lock,
        atomic_cas,
        atomic_load,
        dict_get,
        lock_drop,
        lock_take,
        thread_ident,
    )
    from penstock._kernel.operations import FOREVER, Expiry, expire_at, note, settle, watch_ambient
    from penstock._kernel.seam import SEAM, Interruption
    from penstock._kernel.waiters import Node, Waiter

if TYPE_CHECKING:
    from collections.abc import Generator


# asyncio's own, bound when it has been imported: the core does without it otherwise.
get_running_loop: Any = None
Future: Any = None
CancelledError: Any = None
InvalidStateError: Any = None
current_task: Any = None
Task: Any = None
EventLoop: Any = None

modules: dict[str, Any] = sys.modules
ports: dict[int, Port] = {}


class Binding:
    """Whether asyncio has been imported, and its names bound."""

    __slots__ = ("bound", "lock")

    def __init__(self) -> None:
        if not cython.compiled:
            self.lock = Lock()
            self.bound = Atomic()


BINDING = Binding()


def _bind() -> None:
    global Future, CancelledError, InvalidStateError, Task, EventLoop, current_task, get_running_loop
    import asyncio

    lock_take(BINDING.lock)
    if not atomic_load(BINDING.bound):
        Future = asyncio.Future
        Task = asyncio.Task
        EventLoop = asyncio.AbstractEventLoop
        CancelledError = asyncio.CancelledError
        InvalidStateError = asyncio.InvalidStateError
        current_task = asyncio.current_task
        get_running_loop = asyncio._get_running_loop
        atomic_cas(BINDING.bound, 0, 1)
    lock_drop(BINDING.lock)


def running_loop() -> Any:
    """The event loop that the calling thread runs, or None."""
    if not atomic_load(BINDING.bound):
        if "asyncio" not in modules:
            return None
        _bind()
    return get_running_loop()


def asyncio_task() -> Any:
    """The asyncio task that the calling thread runs, or None."""
    if not atomic_load(BINDING.bound):
        if "asyncio" not in modules:
            return None
        _bind()
    try:
        return current_task()
    except RuntimeError:  # It runs no loop.
        return None


def refuse_in_loop(operation: str, instead: str) -> None:
    """RuntimeError if the calling thread runs an event loop, which parking would block."""
    if running_loop() is not None:
        raise RuntimeError(f"{operation}() would block the event loop; use 'await {instead}()'")


class Batch:
    """Wake-ups on their way into a loop, which owns them: when it is closed before it runs them, it drops them."""

    __slots__ = ("__weakref__", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []

    def __del__(self) -> None:
        items = self.items
        self.items = []  # A task woken here may post to its loop, and find this batch while it ends.
        if items and not sys.is_finalizing():
            for item in items:
                item._stranded()


class Port:
    """How other threads reach one event loop."""

    __slots__ = ("__weakref__", "_batch", "_lock", "_loop")

    def __init__(self, loop: Any) -> None:
        if not cython.compiled:
            self._lock = Lock()
        self._loop = weakref.ref(loop)
        self._batch: Any = None

    def post(self, loop: Any, item: Any) -> bool:
        """Let `item._woken()` be called in the loop. False if the loop is closed."""
        batch: Batch | None = None
        fresh: Batch | None = None
        reference: Any = None
        before: Any = None  # Dropped when the lock has been.
        while batch is None:
            lock_take(self._lock)
            before = self._batch
            if before is not None:
                batch = before()
            if batch is None and fresh is not None:
                batch = fresh
                self._batch = reference
            if batch is not None:
                batch.items.append(item)
            lock_drop(self._lock)
            if batch is None:
                fresh = Batch()
                reference = weakref.ref(fresh)
        try:
            if batch is fresh:
                loop.call_soon_threadsafe(self._drain, batch)
                return True
            if not loop.is_closed():
                return True
        except RuntimeError:
            if not loop.is_closed():
                raise
        for other in self._take(batch):
            if other is not item:
                other._stranded()
        return False

    def _drain(self, batch: Batch) -> None:
        for item in self._take(batch):
            item._woken()

    def _take(self, batch: Batch) -> list[Any]:
        """What stands in the batch; what comes next goes into another."""
        spare: list[Any] = []
        current: Any = None  # Dropped when the lock has been: what another batch does in its end takes the lock.
        lock_take(self._lock)
        reference = self._batch
        items = batch.items
        batch.items = spare
        if reference is not None:
            current = reference()
            if current is batch:
                self._batch = None
        lock_drop(self._lock)
        return items


def port_of(loop: Any) -> Port:
    number = id(loop)
    port = dict_get(ports, number, None)
    if port is None or port._loop() is not loop:
        port = Port(loop)
        ports[number] = port
        weakref.finalize(loop, _forget_port, number, weakref.ref(port)).atexit = False
    return port


def _forget_port(number: int, port: Any) -> None:
    if dict_get(ports, number, None) is port():
        ports.pop(number, None)


class TaskWaiter(Waiter):
    """A parked operation of an asyncio task.

    Await its `future`, once. When the await raises, call `interrupted` with the error; otherwise, and if that returned,
    `settled` gives the node that fired or raises what ended the wait.
    """

    __slots__ = ("_expiry", "_loop", "_scope_node", "future")

    def __init__(self) -> None:
        Waiter.__init__(self)
        self._scope_node: Node | None = None
        self._expiry: Expiry | None = None
        self.future: Any = None

    def prepare(self, deadline: float, operation: str, shielded: bool) -> None:
        """Watch the clock, and the ambient scope unless shielded. The nodes are queued; `future` is awaited next."""
        note(self, deadline, operation)
        if not shielded:
            self._scope_node = watch_ambient(self)
        if deadline < FOREVER:
            self._expiry = expire_at(self, deadline)

    def interrupted(self, error: BaseException) -> None:
        """The await raised `error`: raise it again unless the operation has happened, and cannot be undone."""
        self._disarm()
        if self.retract() or not isinstance(error, CancelledError):
            self._scope_node = None
            raise error
        self.redeliver(error)

    def settled(self) -> Node | None:
        self._disarm()
        scope_node = self._scope_node
        self._scope_node = None  # Whoever still has the waiter has no business with the scope.
        return settle(self, scope_node, self._operation)

    def _disarm(self) -> None:
        if self._expiry is not None:
            SEAM.runtime.disarm(self._expiry)
            self._expiry = None

    def wake(self) -> bool:
        loop = self._loop
        if running_loop() is loop:
            self._woken()
            return True
        if loop.is_closed():
            return False
        return port_of(loop).post(loop, self)

    def _woken(self) -> None:
        try:  # noqa: SIM105  a wake-up should cost little
            self.future.set_result(None)
        except InvalidStateError:
            pass  # Cancelled in this instant: the task finds out what happened when it runs.

    def _stranded(self) -> None:
        self.retract()

    def redeliver(self, error: BaseException) -> None:
        task = current_task()
        if task is not None:
            task.uncancel()
            task.cancel(*error.args)


def new_task_waiter() -> TaskWaiter:
    """A waiter for the running asyncio task."""
    loop = running_loop()
    if loop is None:
        raise RuntimeError("no running event loop: this operation is for asyncio tasks")
    waiter = TaskWaiter.__new__(TaskWaiter)
    if not cython.compiled:
        waiter.__init__()  # type: ignore[misc]  # compiled, a new waiter is as its __init__ makes it
    waiter.begin()
    waiter._loop = loop
    waiter.future = Future(loop=loop)
    return waiter


class Interrupter(Interruption):
    """Interrupts by the asyncio task's own cancellation.

    Everything but `interrupt` and `shown` happens in the thread that runs the loop. Others, who may be the last to have
    the interrupter, never have the task (L4): it is let go when the scope is left. `_number` tells which it was.
    """

    __slots__ = ("_cancelling", "_delivered", "_left", "_loop", "_number", "_shown", "_task", "scope")

    def __init__(self) -> None:
        self._task: Any = None
        self._delivered = False
        self._shown = False
        self._left = False

    def interrupt(self) -> None:
        loop = self._loop
        if running_loop() is loop:
            self._woken()
        elif not loop.is_closed():
            port_of(loop).post(loop, self)

    def _woken(self) -> None:
        # Behind the steps of tasks already woken: if one of them is this task, it has seen the ending by then.
        self._loop.call_soon(self._deliver)

    def _stranded(self) -> None:
        """The loop is closed: there is no await to interrupt."""

    def interrupts(self, number: int) -> bool:
        return self._number == number

    def _deliver(self) -> None:
        if self._left or self._shown:
            return
        scope = self.scope
        outer = scope.outer()
        while outer is not None:  # An enclosing scope that ends for the same reason interrupts for both.
            interrupter = outer.interrupter()
            if interrupter is not None and interrupter.interrupts(self._number) and outer.origin() is scope.origin():
                return
            outer = outer.outer()
        self._delivered = True
        self._task.cancel("the ambient context has ended")

    def shown(self) -> None:
        if id(asyncio_task()) == self._number:
            self._shown = True

    def leave(self, error: BaseException | None) -> bool:
        task = self._task
        self._task = None
        self._left = True
        if not self._delivered:
            return False
        self._delivered = False
        if task.uncancel() > self._cancelling:
            return False
        if isinstance(error, CancelledError):
            return True
        self._delivered = True  # Never noticed: see `absorb`.
        return False

    def unnoticed(self) -> bool:
        # From Python 3.13 on, `uncancel` takes the request back by itself.
        if not self._delivered:
            return False
        task = asyncio_task()
        return id(task) == self._number and bool(getattr(task, "_must_cancel", False))

    async def absorb(self) -> None:
        try:  # noqa: SIM105  compiled as it stands
            await one_step()
        except CancelledError:
            pass


def interrupter_for(scope: Any) -> Interrupter:
    """For the running asyncio task, which enters `scope`."""
    loop = running_loop()
    task = None if loop is None else current_task(loop)
    if task is None:
        raise RuntimeError("no running asyncio task: outside one, use 'with' instead of 'async with'")
    interrupter = Interrupter.__new__(Interrupter)
    if not cython.compiled:
        interrupter.__init__()  # type: ignore[misc]  # compiled, a new interrupter is as its __init__ makes it
    interrupter._loop = loop
    interrupter._task = task
    interrupter._number = id(task)
    interrupter._cancelling = task.cancelling()
    interrupter.scope = scope
    return interrupter


class one_step:  # noqa: N801  an awaitable that suspends for one step of the loop
    def __await__(self) -> Generator[None, None, None]:
        yield


# For the code above the kernel

asyncio_tasks: set[Any] = set()  # Loops refer to their tasks weakly.


def running_event_loop() -> Any:
    """The event loop that the calling thread runs, or None."""
    return running_loop()


def is_own_cancellation(error: BaseException) -> bool:
    """Is `error` the way in which asyncio cancels a task?"""
    return CancelledError is not None and isinstance(error, CancelledError)


def task_awaiting(future: Any) -> Any:
    """The asyncio task that awaits `future`; None if none does, or if that cannot be told."""
    for callback, _context in getattr(future, "_callbacks", None) or ():
        task = getattr(callback, "__self__", None)
        if Task is not None and isinstance(task, Task):
            return task
    return None


def is_asyncio_task(thing: Any) -> bool:
    """Is it a task of asyncio's?"""
    return Task is not None and isinstance(thing, Task)


def name_and_coroutine(task: Any) -> tuple[str, Any]:
    """The name of an asyncio task, and what it runs. Of a class derived from asyncio's no method is called."""
    return Task.get_name(task), Task.get_coro(task)


def weak_registries() -> list[Any]:
    """The weak sets in which asyncio notes its tasks, and each loop its asynchronous generators."""
    if "asyncio" not in sys.modules:
        return []
    tasks = sys.modules.get("asyncio.tasks")
    return [getattr(tasks, name, None) for name in ("_all_tasks", "_scheduled_tasks", "_eager_tasks")]


def is_loop_class(cls: type) -> bool:
    """Are its instances event loops?"""
    return EventLoop is not None and EventLoop in cls.__mro__


def asynchronous_generators(loop: Any) -> Any:
    """The weak set in which an event loop notes its asynchronous generators."""
    return getattr(loop, "_asyncgens", None)


def create_task(loop: Any, coroutine: Any, context: Any, ended: Any) -> None:
    """Run `coroutine` as a task of `loop`, from any thread. In the end call `ended` with a cancellation."""
    if running_loop() is loop:
        _create_task(loop, coroutine, context, ended)
    else:
        loop.call_soon_threadsafe(_create_task, loop, coroutine, context, ended)


def _create_task(loop: Any, coroutine: Any, context: Any, ended: Any) -> None:
    task = loop.create_task(coroutine, context=context)
    asyncio_tasks.add(task)
    task.add_done_callback(partial(_task_done, ended))


def _task_done(ended: Any, task: Any) -> None:
    asyncio_tasks.discard(task)
    ended(CancelledError())


def running_task() -> Any:
    """What tells the calling task from all others: the asyncio task, or the thread's identifier."""
    task = asyncio_task()
    return thread_ident() if task is None else task


# Loops as others see them that look for what sleeps


def _asyncio() -> Any:
    """The module, if its names are bound. Before, it is not there, or another thread is about to import it."""
    return sys.modules.get("asyncio") if atomic_load(BINDING.bound) else None


def is_loops_sleep(frame: Any) -> bool:
    """Is a thread whose innermost frame is this one inside the selector of an event loop?"""
    asyncio = _asyncio()
    above = frame.f_back
    return (
        asyncio is not None
        and frame.f_code.co_name == "select"
        and above is not None
        and above.f_code is asyncio.BaseEventLoop._run_once.__code__
    )


def loop_without_work(frame: Any) -> Any:
    """The event loop whose thread sleeps in `frame`, if nothing but another thread can give it work again.

    None where it has work, timers, files, signals or processes to wait for, and where that cannot be known.
    """
    above = frame.f_back
    loop = above.f_locals.get("self")
    outer = above.f_back
    while outer is not None:  # A loop inside a loop's callback: the outer one's work is not seen from here.
        if outer.f_code is above.f_code:
            return None
        outer = outer.f_back
    if not _is_plain(loop) or loop._ready or loop._stopping or loop._signal_handlers:
        return None
    if not all(handle._cancelled for handle in list(loop._scheduled)):
        return None
    files = loop._selector.get_map()
    if files is None or list(files) != [loop._ssock.fileno()]:
        return None
    return loop


def _is_plain(loop: Any) -> bool:
    """Is it a loop of asyncio's own, whose inside is known?"""
    import asyncio

    plain = getattr(asyncio, "SelectorEventLoop", None)
    return (
        plain is not None
        and isinstance(loop, plain)
        and type(loop)._run_once is asyncio.BaseEventLoop._run_once
        and type(loop).call_soon_threadsafe is asyncio.BaseEventLoop.call_soon_threadsafe
        and type(loop._selector).__module__ == "selectors"
    )


def is_runners_handler(handler: Any) -> bool:
    """Is it the handler that `asyncio.run` has for Ctrl-C?"""
    asyncio = _asyncio()
    method = getattr(handler, "func", None)
    return (
        asyncio is not None
        and getattr(method, "__func__", None) is getattr(asyncio.Runner, "_on_sigint", None) is not None
    )


def main_task(loop: Any) -> Any:
    """The task that `loop.run_until_complete`, and so `asyncio.run`, waits for; None if there is none."""
    import asyncio

    ends = getattr(asyncio.base_events, "_run_until_complete_cb", None)
    for task in asyncio.all_tasks(loop):
        for callback, _ in getattr(task, "_callbacks", None) or ():
            if callback is ends is not None:
                return task
    return None


def awaited_by(task: Any) -> tuple[Any, Any]:
    """The future that keeps `task` from going on, and who awaits it: `task`, or the last of a chain of tasks."""
    awaited = task._fut_waiter
    while isinstance(awaited, Task):
        task = awaited
        awaited = task._fut_waiter
    return task, awaited


def raise_in(task: Any, future: Any, error: BaseException) -> None:
    """In the thread of its loop: let `task` raise `error` where it awaits `future`, which may be awaited by others."""
    loop = future.get_loop()
    for callback, context in future._callbacks or ():
        if getattr(callback, "__self__", None) is task:
            failed = loop.create_future()
            failed.set_exception(error)
            future.remove_done_callback(callback)
            future.add_done_callback(_retrieve)
            loop.call_soon(callback, failed, context=context)
            return


def _retrieve(future: Any) -> None:
    """Nobody awaits it any more: what becomes of it is no news."""
    if not future.cancelled():
        future.exception()
