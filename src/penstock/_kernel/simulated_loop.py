"""An asyncio event loop in an explored world: no sockets, and each of its steps is somebody's choice.

The world is asked which task has the next step. Tasks that are ready may have it in any order; a plain callback comes
after all that was scheduled before it, and before all that was scheduled after it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs in one thread of the world, which is asked for the time and for each choice."""

    def __init__(self, world: Any) -> None:
        super().__init__()
        self._world = world
        self.actors: dict[Any, Any] = {}
        """What the world knows this loop's tasks as."""
        self._timers: dict[int, Callable[[], None]] = {}
        """What makes the world forget a timer handle, by the handle's identity."""
        self._fresh = 0
        """How many handles have come since they were put in order."""

    # What the world asks

    def is_ready(self) -> bool:
        """Is there anything to do?"""
        return bool(self._ready) or self._stopping

    def next_tasks(self) -> list[Any]:
        """The tasks that could have the next step; None for a plain callback."""
        self._put_in_order()
        found: list[Any] = []
        for handle in self._ready:
            task = _task_of(handle)
            if task is None:
                return found or [None]
            if task not in found:
                found.append(task)
        return found or [None]

    def _put_in_order(self) -> None:
        """Tasks that one step made ready come in the order of their births: asyncio keeps some in sets, whose order is
        another in each run."""
        fresh, self._fresh = self._fresh, 0
        if fresh < 2:  # noqa: PLR2004
            return
        handles = [self._ready.pop() for _ in range(min(fresh, len(self._ready)))][::-1]
        for plain, group in groupby(handles, key=lambda handle: _task_of(handle) not in self.actors):
            together = list(group)
            self._ready.extend(together if plain else sorted(together, key=self._birth))

    def _birth(self, handle: Any) -> int:
        return int(self.actors[_task_of(handle)].number)

    def waiting_tasks(self) -> list[Any]:
        """The tasks that have not ended."""
        return [task for task in self.actors if not task.done()]

    def failures(self) -> list[tuple[Any, BaseException]]:
        """The tasks that have failed, as the world knows them, and their errors that nobody has looked at."""
        failed = [task for task in self.actors if task.done() and getattr(task, "_log_traceback", False)]
        return [(self.actors[task], task.exception()) for task in failed]

    def awaited(self, task: Any) -> str:
        """The innermost function that a task is suspended in."""
        return str(getattr(_suspended(task)[0], "__qualname__", "await"))

    def frames(self, task: Any) -> list[Any]:
        """Where a task is suspended, innermost first."""
        frames = [getattr(coroutine, "cr_frame", None) for coroutine in _suspended(task)]
        return [frame for frame in frames if frame is not None]

    # What asyncio asks

    def time(self) -> float:
        """The world's time."""
        return float(self._world.monotonic())

    def run_forever(self) -> None:
        """As any loop does."""
        self._world.loop_begins(self)
        try:
            super().run_forever()
        finally:
            self._world.loop_ends()
            if self._world.over:
                self.dispose()

    def _run_once(self) -> None:
        if self._stopping and not self._ready:
            return
        task = self._world.loop_step()
        if self._ready:
            handle = self._take(task)
            if not handle._cancelled:
                handle._run()
            handle = None  # It keeps what it calls alive.

    def _take(self, task: Any) -> Any:
        for at, handle in enumerate(self._ready):
            if task is None or _task_of(handle) is task:
                del self._ready[at]
                return handle
        return self._ready.popleft()

    def create_task(self, coroutine: Any, *, name: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """As any loop does, with a name that does not count what came before."""
        if name is None:
            newborn, self._world.newborn = self._world.newborn, None
            name = getattr(coroutine, "__qualname__", "task") if newborn is None else newborn.name
        task = super().create_task(coroutine, name=name, **options)
        self.actors[task] = self._world.asyncio_task(task)
        return task

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As any loop does."""
        self._check_closed()
        handle: Any = asyncio.TimerHandle(when, callback, list(args), self, context)
        handle._scheduled = True
        self._timers[id(handle)] = self._world.call_at(when, partial(self._due, handle))
        return handle

    def _due(self, handle: Any) -> None:
        handle._scheduled = False
        del self._timers[id(handle)]
        if not handle._cancelled:
            self._ready.append(handle)
            self._fresh += 1
            self._world.loop_ready(self)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        forget = self._timers.pop(id(handle), None)
        if forget is not None:
            forget()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As any loop does."""
        handle = super().call_soon(callback, *args, context=context)
        self._world.loop_ready(self)
        return handle

    def _call_soon(self, callback: Any, args: Any, context: Any) -> Any:
        self._fresh += 1
        self._world.touched()
        return super()._call_soon(callback, args, context)  # type: ignore[misc]

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """In the default executor: in a thread of the world."""
        if executor is not None:
            return super().run_in_executor(executor, function, *args)
        future = self.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def run() -> None:
            try:
                result = function(*args)
            except BaseException as error:  # noqa: BLE001  whoever awaits the future gets it
                if not self._world.over:
                    self.call_soon_threadsafe(settle, None, error)
            else:
                self.call_soon_threadsafe(settle, result, None)

        called = function.args[0] if isinstance(function, partial) and function.args else function
        self._world.start_named(getattr(called, "__name__", "to_thread"), run)
        return future

    def _write_to_self(self) -> None:
        self._world.loop_ready(self)

    def _process_events(self, event_list: Any) -> None:
        """There are no events from outside."""

    def silence(self) -> None:
        """Let asyncio say nothing of tasks that are dropped before they have ended, or with errors."""
        for task in self.actors:
            task._log_traceback = False
            task._log_destroy_pending = False

    def dispose(self) -> None:
        """Close what is left of its tasks, of which none will have another step."""
        self.silence()
        for task in self.waiting_tasks():
            with suppress(BaseException):  # It was to end, and has.
                task.get_coro().close()
        self._ready.clear()
        self._stopping = False
        if not self.is_running():
            self.close()


def _suspended(task: Any) -> list[Any]:
    """The coroutines of a task that await one another, innermost first."""
    found = []
    coroutine = task.get_coro()
    while hasattr(coroutine, "cr_await"):
        found.append(coroutine)
        coroutine = coroutine.cr_await
    return found[::-1] or [coroutine]


_OF_THE_WORLD_OUTSIDE = (
    *("add_reader", "add_writer", "add_signal_handler", "connect_read_pipe", "connect_write_pipe"),
    *("create_connection", "create_datagram_endpoint", "create_server", "create_unix_connection"),
    *("create_unix_server", "getaddrinfo", "getnameinfo", "sendfile", "sock_accept", "sock_connect", "sock_recv"),
    *("sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendfile", "sock_sendto"),
    *("start_tls", "subprocess_exec", "subprocess_shell"),
)


def _refused(name: str) -> Callable[..., None]:
    def refuse(self: SimulatedLoop, *_args: Any, **_options: Any) -> None:
        self._world.refuse(f"the event loop's {name}()")

    return refuse


for _name in _OF_THE_WORLD_OUTSIDE:
    setattr(SimulatedLoop, _name, _refused(_name))


def _task_of(handle: Any) -> Any:
    task = getattr(handle._callback, "__self__", None)
    return task if isinstance(task, asyncio.Task) else None


def run_in_world(world: Any, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run an async function in a loop of the world; then, for as long as anything happens in it, the loop alone."""
    loop = SimulatedLoop(world)
    try:
        loop.run_until_complete(function())
        world.main_returned()
        loop.run_forever()
    finally:
        if not loop.is_closed():
            loop.close()


class _Factory:
    """In place of `asyncio.new_event_loop`: a simulated loop for threads that are in a world."""

    def __init__(self, world_of_thread: Callable[[], Any]) -> None:
        self._world = world_of_thread
        self._before = asyncio.events.new_event_loop

    def __call__(self) -> Any:
        world = self._world()
        return self._before() if world is None else SimulatedLoop(world)

    def install(self) -> None:
        asyncio.events.new_event_loop = asyncio.new_event_loop = self

    def remove(self) -> None:
        asyncio.events.new_event_loop = asyncio.new_event_loop = self._before


def simulate_loops(world_of_thread: Callable[[], Any]) -> Callable[[], None]:
    """From now on, `asyncio.run` in a world runs a simulated loop. Returns what ends that."""
    factory = _Factory(world_of_thread)
    factory.install()
    return factory.remove
