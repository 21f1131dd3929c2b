"""Tasks and groups: work in threads and asyncio tasks, started together, failing together, waited for together."""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from functools import partial
from inspect import CO_COROUTINE, iscoroutine, iscoroutinefunction
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, TypeVarTuple, final, overload

from penstock._kernel.latch import Countdown
from penstock._kernel.locks import SemaphoreCore
from penstock._kernel.loops import create_task, is_own_cancellation, running_event_loop
from penstock._kernel.scopes import ambient_variable
from penstock._kernel.threads import start
from penstock.channel import Channel, DoneChannel, SendChannel
from penstock.context import current
from penstock.errors import Cancelled, DeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from penstock.context import Context

__all__ = ["Group", "Task", "go"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Owner(Protocol):
    """Who is told of a task's end."""

    _collects: ClassVar[bool]
    """Are failures the owner's business? Otherwise the task reports those that nobody collects."""

    def _member_ended(self, context: Context, error: BaseException | None) -> None: ...
    def _member_gone(self, context: Context) -> None: ...


class Tenure(Countdown):
    """How long a task's context lasts: until it has ended, and so have the tasks started in it that outlive it.

    The context ends then, so that those above it forget it; not before, since these tasks inherit it.
    """

    __slots__ = ("_above", "_context")

    def __init__(self, context: Context) -> None:
        super().__init__(1)
        self._context = context
        above = _tenure.get(None)
        # Not where another context is attached in between: what happens there is none of the task's business.
        shared = above is not None and above._context.leads_to(context) and above.join()
        self._above = above if shared else None

    def leave(self) -> None:
        """The task has ended."""
        tenure: Tenure | None = self
        while tenure is not None and not tenure.add(-1):
            tenure._context.cancel()
            above, tenure._above = tenure._above, None
            tenure = above


_tenure: ContextVar[Tenure] = ContextVar("penstock.tenure")


@final
class Task(Generic[T]):
    """A function at work in a thread or an asyncio task of its own. Made by `Group.go` and `go`."""

    __slots__ = ("__weakref__", "_collected", "_context", "_error", "_finished", "_owner", "_result", "_tenure", "name")

    def __init__(self, name: str, context: Context, owner: Owner | None) -> None:
        self.name = name
        self._context = context
        self._tenure = Tenure(context)
        self._owner = owner
        self._finished = Countdown(1)
        self._result: Any = None
        self._error: BaseException | None = None
        self._collected = owner is not None and owner._collects

    @property
    def done(self) -> DoneChannel:
        """A receiving channel that is closed when the task has ended; true once it has. For `select`."""
        return DoneChannel(self._finished.closed_at_zero(Channel()))

    @property
    def context(self) -> Context:
        """The task's own context: ended by `cancel`, and with the context that the task was started in."""
        return self._context

    def cancel(self, cause: Any = None) -> None:
        """End the task's context. The task ends as soon as it notices."""
        self._context.cancel(cause)

    def result(self, timeout: float | None = None) -> T:
        """Wait until the task has ended; return what it returned, or raise what it raised.

        Raises `TimeoutError` after `timeout` seconds and `Cancelled` if the ambient context ends; the task goes on.
        """
        try:
            self._finished.wait_in_thread(timeout, "Task.result", "Task.aresult", False)
            return self._outcome()
        finally:
            del self  # The error's traceback refers to this frame, which must not refer to the error.

    async def aresult(self, timeout: float | None = None) -> T:
        """As `result`, for an asyncio task to await."""
        try:
            await wait_for_zero(self._finished, timeout, "Task.aresult")
            return self._outcome()
        finally:
            del self  # As in `result`.

    def _outcome(self) -> T:
        self._collected = True
        try:
            if self._error is not None:
                raise self._error
            return self._result  # type: ignore[no-any-return]
        finally:
            del self  # As in `result`.

    def _end(self, result: Any, error: BaseException | None) -> None:
        self._result = result
        self._error = error
        self._tenure.leave()
        owner, self._owner = self._owner, None
        if owner is not None:
            owner._member_ended(self._context, error)
        self._finished.add(-1)
        if owner is not None:
            owner._member_gone(self._context)

    def _end_if_unstarted(self, cancelled: BaseException) -> None:
        """The asyncio task has ended. Where it was cancelled before its first step, nothing of it ever ran."""
        if self._finished.count():
            self._end(None, cancelled)

    def __del__(self) -> None:
        if self._error is not None and not self._collected and not self._was_ended():
            # What is raised here is given to sys.unraisablehook.
            self._error.add_note(f"Nobody collected this error of the task {self.name}.")
            raise self._error

    def _was_ended(self) -> bool:
        """Is the error not the function's, but what ended it: its context, asyncio, or the end of its loop?"""
        error = self._error
        return error is not None and (isinstance(error, Cancelled | GeneratorExit) or is_own_cancellation(error))

    def __repr__(self) -> str:
        if self._finished.count():
            state = "running"
        elif self._error is None:
            state = "done"
        else:
            state = "cancelled" if self._was_ended() else "failed"
        return f"<Task {self.name} {state} at {id(self):#x}>"


async def wait_for_zero(countdown: Countdown, timeout: float | None, operation: str, *, shielded: bool = False) -> None:
    """Await until the count is zero. Shielded: whatever becomes of the ambient context."""
    await await_parked(countdown.begin_wait(timeout, operation, shielded), countdown.finish_wait)


async def await_parked(waiter: Any, finish: Callable[[Any], object]) -> None:
    """Await the waiter that an operation of the kernel gives if it has to wait, and give it to `finish`."""
    if waiter is not None:
        try:
            await waiter.future
        except BaseException as error:  # noqa: BLE001  raised again, unless the operation has happened
            waiter.interrupted(error)
        finish(waiter)


def shown(thing: Any, form: Callable[[Any], str] = repr) -> str:
    """Its `repr`, or `str`, unless that raises: then that of any object."""
    try:
        return form(thing)
    except Exception:  # noqa: BLE001  what a user's class raises here must not hide anything else
        return object.__repr__(thing)


def name_of(function: Any) -> str:
    """What a task that works at `function` is called."""
    name = getattr(function, "__qualname__", None) or shown(function)
    if "Core." in name and hasattr(function, "__self__"):  # The kernel's part of a class is called otherwise.
        return f"{type(function.__self__).__name__}.{function.__name__}"
    return name


def refuse_in_loop(operation: str, instead: str) -> None:
    """RuntimeError if the calling thread runs an event loop: before anything is started that would be waited for."""
    if running_event_loop() is not None:
        raise RuntimeError(f"{operation} would block the event loop; use '{instead}'")


def is_async(function: Any) -> bool:
    """Does a call of `function` give something to await?"""
    if type(function) is FunctionType:  # As most are; without attributes it cannot be marked as asynchronous either.
        if function.__code__.co_flags & CO_COROUTINE:
            return True
        return bool(function.__dict__) and iscoroutinefunction(function)
    while isinstance(function, partial):
        function = function.func
    if isinstance(getattr(function, "__self__", None), Channel | SendChannel) and function.__name__ == "asend":
        return True  # A plain method that gives an awaitable: a send that need not wait costs no coroutine.
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(type(function), "__call__", None))  # noqa: B004


def _run(task: Any, function: Any, args: Any) -> None:
    """In a thread, inside a copy of the starter's context variables."""
    ambient_variable.set(task._context)
    _tenure.set(task._tenure)
    try:
        task._context.check()
        result = function(*args)
        if iscoroutine(result):
            result.close()
            raise TypeError(  # noqa: TRY301  as if the function had raised it
                f"{task.name} returned a coroutine; pass the async function itself, to a group entered by 'async with'"
            )
    except BaseException as error:  # noqa: BLE001  kept for whoever asks for the result
        task._end(None, error)
    else:
        task._end(result, None)
    finally:
        # The error's traceback refers to this frame: it must not refer to the task, which refers to the error.
        task = function = args = result = None


async def _run_async(task: Any, function: Any, args: Any) -> None:
    """In an asyncio task, inside a copy of the starter's context variables."""
    context = task._context
    result = failure = None
    _tenure.set(task._tenure)
    try:
        context.enter_async()
        try:
            context.check()
            result = await function(*args)
        except BaseException as error:  # noqa: BLE001  kept for whoever asks for the result
            failure = context.leave_interrupter(error)
        else:
            context.leave_interrupter(None)
        task._end(result, failure)
    finally:
        task = function = args = context = result = failure = None


@overload
def go(function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> Task[T]: ...
@overload
def go(function: Callable[[*Ts], T], *args: *Ts) -> Task[T]: ...
def go(function: Callable[[*Ts], Any], *args: *Ts) -> Task[Any]:
    """Start `function(*args)` in a task that nobody owns: a thread, or, for an async function, an asyncio task.

    The task inherits the context variables, the ambient context among them, and may outlive the task that starts it. An
    exception that nobody collects with `result` is reported through `sys.unraisablehook`. Prefer a `Group` where the
    work has an end.
    """
    return start_task(function, args, None)


def start_task(
    function: Callable[..., Any], args: tuple[Any, ...], owner: Owner | None, name: str | None = None
) -> Task[Any]:
    """As `go`; `owner` is told of the end, and the task is called `name`."""
    if not callable(function):
        raise TypeError(f"go() takes a function and its arguments, not {function!r}")
    name = name or name_of(function)
    asynchronous = is_async(function)
    loop = running_event_loop() if asynchronous else None
    if asynchronous and loop is None:
        raise RuntimeError(f"{name} is an async function, and this thread runs no event loop to run it in")
    task: Task[Any] = Task(name, current().with_cancel(), owner)
    _start(task, loop, function, args)
    return task


def _start(task: Task[Any], loop: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """In a thread, or, where there is a loop, as a task of that."""
    try:
        if loop is None:
            start(partial(copy_context().run, _run, task, function, args))
        else:
            create_task(loop, _run_async(task, function, args), copy_context(), task._end_if_unstarted)
    except BaseException:
        task._tenure.leave()
        raise


@final
class Group:
    """Tasks that belong together: leaving the block waits for all of them.

    The body is a member. The first failure cancels the group's context, and the block raises an `ExceptionGroup` of all
    failures. A member that ends because the group's context did has not failed.

    `with Group() as g:` runs threads. `async with Group() as g:` runs async functions as asyncio tasks of the running
    loop, and other functions in threads. With a `limit`, no more than that many tasks are at work at once.
    """

    __slots__ = (
        "__weakref__",
        "_bare",
        "_context",
        "_ending",
        "_failures",
        "_limit",
        "_loop",
        "_places",
        "_running",
        "_token",
    )

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None:
            if isinstance(limit, bool) or not isinstance(limit, int):
                raise TypeError(f"a group's limit must be an integer or None, not {limit!r}")
            if limit < 1:
                raise ValueError(f"a group's limit must be 1 or more, not {limit}: nothing could ever run")
        self._limit = limit
        self._places = None if limit is None else SemaphoreCore(limit)
        self._running = Countdown(0)
        self._context: Context | None = None
        self._loop: Any = None
        self._failures: list[BaseException] = []
        self._bare: BaseException | None = None
        self._ending: BaseException | None = None

    @property
    def context(self) -> Context:
        """The group's context: cancel it to end all members."""
        if self._context is None:
            raise RuntimeError("a group has a context once it has been entered: 'with Group() as g:'")
        return self._context

    # Starting tasks

    @overload
    def go(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> Task[T]: ...
    @overload
    def go(self, function: Callable[[*Ts], T], *args: *Ts) -> Task[T]: ...
    def go(self, function: Callable[[*Ts], Any], *args: *Ts) -> Task[Any]:
        """Start `function(*args)` as a task of the group.

        At the limit, waits until a place is free; raises `Cancelled` if the ambient context ends before.
        """
        self._check(function)
        if self._places is not None and not self._places.take_now(1):
            self._places.enter_in_thread(1, None, "Group.go", "Group.ago")
        return self._start(function, args)

    @overload
    async def ago(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> Task[T]: ...
    @overload
    async def ago(self, function: Callable[[*Ts], T], *args: *Ts) -> Task[T]: ...
    async def ago(self, function: Callable[[*Ts], Any], *args: *Ts) -> Task[Any]:
        """As `go`, for an asyncio task to await."""
        self._check(function)
        if self._places is not None and not self._places.take_now(1):
            await await_parked(self._places.begin_acquire(1, None), self._places.finish_enter)
        return self._start(function, args)

    @overload
    def try_go(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> Task[T] | None: ...
    @overload
    def try_go(self, function: Callable[[*Ts], T], *args: *Ts) -> Task[T] | None: ...
    def try_go(self, function: Callable[[*Ts], Any], *args: *Ts) -> Task[Any] | None:
        """As `go`, if a place is free; None if not."""
        self._check(function)
        if self._places is not None and not self._places.try_acquire():
            return None
        return self._start(function, args)

    def _check(self, function: Any) -> None:
        if not callable(function):
            hint = "; pass the function and its arguments, not their call" if iscoroutine(function) else ""
            if hint:
                function.close()
            raise TypeError(f"go() takes a function and its arguments, not {function!r}{hint}")
        if self._context is None:
            raise RuntimeError("a group starts tasks inside its block: 'with Group() as g:'")
        if self._loop is None and is_async(function):
            raise TypeError(
                f"{name_of(function)} is an async function, and this group runs threads; use 'async with Group()'"
            )

    def _start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        started = False
        try:
            if not self._running.join():
                raise RuntimeError("this group has ended: its block has been left, and its tasks have been waited for")
            try:
                task: Task[Any] = Task(name_of(function), self.context.with_cancel(), self)
                _start(task, self._loop if is_async(function) else None, function, args)
                started = True
            finally:
                if not started:
                    self._running.add(-1)
        finally:
            if not started and self._places is not None:
                self._places.release()
        return task

    # What became of the members

    _collects: ClassVar[bool] = True

    def _member_gone(self, _context: Context) -> None:
        self._running.add(-1)

    def _member_ended(self, context: Context | None, error: BaseException | None) -> None:
        """A member has ended: the task with that context, or, if None, the body."""
        if self._places is not None and context is not None:
            self._places.release()
        if isinstance(error, BaseExceptionGroup):  # Those that asyncio.TaskGroup makes hold its tasks' endings too.
            error = error.split(lambda each: self._is_ending(each, context))[1]
        if error is None or self._is_ending(error, context):
            return
        group_context = self.context
        if isinstance(error, Cancelled):
            if self._ending is None:
                self._ending = error
        elif isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | DeadlockError) or is_own_cancellation(
            error
        ):
            if context is not None and is_own_cancellation(error):
                return  # Somebody cancelled the member alone, or its loop is being closed.
            if self._bare is None:
                self._bare = error
        else:
            self._failures.append(error)
        group_context.cancel(error)

    def _is_ending(self, error: BaseException, context: Context | None) -> bool:
        """Has the member with that context been ended, by itself, by the group or from above? The last is kept."""
        if not isinstance(error, Cancelled):
            return False
        origin, group_context = error.origin, self.context
        if origin is group_context or (origin is context and context is not None):
            return True
        if origin is not None and origin.leads_to(group_context):
            self._ending = error
            return True
        return False

    def _raise(self, error: BaseException | None) -> bool:
        """Raise what the block raises; True if nothing."""
        failures = self._failures
        outcome: BaseException | None = self._bare
        if outcome is None:
            outcome = self._ending
            if failures:
                plural = "" if len(failures) == 1 else "s"
                outcome = BaseExceptionGroup(f"{len(failures)} member{plural} of a group failed", failures)
        elif failures:
            outcome.__context__ = BaseExceptionGroup("members of a group had failed", failures)
        self._failures = []
        self._bare = self._ending = None
        if outcome is None:
            return True
        if outcome is error:
            return False
        context = outcome.__context__
        try:
            raise outcome  # noqa: TRY301
        except BaseException:
            outcome.__context__ = context  # Not the body's error: it is among the failures, or gave way.
            raise
        finally:
            del outcome, failures, error, context

    def _open(self) -> Context:
        if self._context is not None:
            raise RuntimeError("this group has been entered before; make a new one")
        self._context = current().with_cancel()
        self._running.add(1)
        return self._context

    # The block

    def __enter__(self) -> Group:
        self._open().enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        context = self.context
        interrupted = isinstance(error, KeyboardInterrupt | DeadlockError)
        noticed = False  # The context's ending is news once; the members are waited for all the same.
        try:
            self._member_ended(None, error)
            self._running.add(-1)
            if self._running.count() and running_event_loop() is not None:
                raise RuntimeError("leaving a Group would block the event loop; use 'async with Group()'")
            while self._running.count():
                try:
                    self._running.wait_in_thread(None, "leaving a Group", "Group.__aexit__", noticed)
                except Cancelled as ending:
                    noticed = True
                    self._member_ended(None, ending)
                except BaseException as interrupt:
                    if isinstance(interrupt, Exception) and not isinstance(interrupt, DeadlockError):
                        self._member_ended(None, interrupt)  # A signal handler's: the body's, late.
                        continue
                    if interrupted:
                        raise
                    interrupted = True
                    self._member_ended(None, interrupt)
        finally:
            context.leave()
        return self._raise(error)

    async def __aenter__(self) -> Group:
        context = self._open()
        self._loop = running_event_loop()
        context.enter_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        context = self.context
        interrupter = context.interrupter()
        self._member_ended(None, context.leave_interrupter(error))
        self._running.add(-1)
        noticed = False  # As in __exit__.
        try:
            if interrupter.unnoticed():
                await interrupter.absorb()
            while self._running.count():
                try:
                    waiter = self._running.begin_wait(None, "leaving a Group", noticed)
                    if waiter is None:
                        break
                    try:
                        await waiter.future
                    except BaseException as interrupt:  # noqa: BLE001  kept until all members have ended
                        waiter.interrupted(interrupt)
                    self._running.finish_wait(waiter)
                except GeneratorExit:
                    raise
                except BaseException as interrupt:
                    if isinstance(interrupt, DeadlockError) and isinstance(self._bare, DeadlockError):
                        raise  # The members have been cancelled, and that does not help.
                    noticed = noticed or isinstance(interrupt, Cancelled)
                    self._member_ended(None, interrupt)
        finally:
            context.leave()
        return self._raise(error)
