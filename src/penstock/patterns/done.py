"""Done: stop waiting for what nobody wants any more. Calls that know nothing of contexts, and races between calls.

A call that is left behind goes on in its thread until it ends by itself; its outcome is dropped. `abandoned` counts
such calls, `limit_abandoned` bounds them, and none of them holds up the interpreter's exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, TypeVarTuple, final, overload

from penstock.channel import Channel
from penstock.context import current
from penstock.errors import OutOfCapacity
from penstock.group import Task, is_async, refuse_in_loop, start_task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.context import Context

__all__ = ["abandoned", "acall", "afirst", "call", "first", "limit_abandoned"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class _Calls:
    """The owner of all calls: it knows those that were left behind and have not ended."""

    _collects: ClassVar[bool] = True

    def __init__(self) -> None:
        self.left: set[Any] = set()
        self.limit: int | None = None

    def start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        current().check()
        if self.limit is not None and len(self.left) >= self.limit:
            raise OutOfCapacity(f"{len(self.left)} abandoned calls are still running, and no more are allowed")
        return start_task(function, args, self)

    def leave(self, task: Task[Any]) -> None:
        """Nobody waits for `task` any more."""
        self.left.add(task.context)
        if task.done:  # It ended meanwhile, and found itself not among those left.
            self.left.discard(task.context)

    def _member_ended(self, context: Context, error: BaseException | None) -> None:
        pass

    def _member_gone(self, context: Context) -> None:
        self.left.discard(context)


_CALLS = _Calls()


def abandoned() -> int:
    """How many calls are still running although nobody waits for them any more."""
    return len(_CALLS.left)


def limit_abandoned(most: int | None) -> None:
    """While `most` abandoned calls are running, let `call`, `acall`, `first` and `afirst` raise `OutOfCapacity`.

    None, the default: no limit. The limit holds for the whole process.
    """
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int):
            raise TypeError(f"the limit of abandoned calls must be an integer or None, not {most!r}")
        if most < 1:
            raise ValueError(
                f"the limit of abandoned calls must be 1 or more, not {most}: nothing could ever be called"
            )
    _CALLS.limit = most


def call(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run `function(*args)`, which knows nothing of contexts, under the ambient context.

    It runs in a thread of the library's. If the ambient context ends first, `Cancelled` is raised at once; the call
    finishes on its own, and what it returns or raises is dropped. In an ended context it is not called at all.
    Raises what the function raises, and `OutOfCapacity` at the limit of abandoned calls.
    """
    if is_async(function):
        raise TypeError(f"{function!r} is an async function; use 'await acall()'")
    refuse_in_loop("call()", "await acall()")
    task = _CALLS.start(function, args)
    try:
        return task.result()  # type: ignore[no-any-return]
    finally:
        _CALLS.leave(task)


@overload
async def acall(function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T: ...
@overload
async def acall(function: Callable[[*Ts], T], *args: *Ts) -> T: ...
async def acall(function: Callable[[*Ts], Any], *args: *Ts) -> Any:
    """As `call`, for an asyncio task to await; its cancellation leaves the call behind as well.

    An async function runs as an asyncio task of its own, whose awaits the context's ending interrupts.
    """
    task = _CALLS.start(function, args)
    try:
        return await task.aresult()
    finally:
        _CALLS.leave(task)


class _Race:
    """Functions at work side by side, each in a task of its own, under one context."""

    def __init__(self, functions: tuple[Callable[[], Any], ...], name: str) -> None:
        if not functions:
            raise ValueError(f"{name}() takes at least one function")
        for function in functions:
            if not callable(function):
                raise TypeError(f"{name}() takes functions without arguments, not {function!r}")
        self._functions = functions
        self._context = current().with_cancel()
        self._outcomes: Channel[tuple[Any, BaseException | None]] = Channel(len(functions))  # Nobody waits to report.
        self._tasks: list[Task[None]] = []
        self.failures: list[BaseException] = []

    def __enter__(self) -> Self:
        with self._context.attach():
            try:
                for function in self._functions:
                    run = _run_async if is_async(function) else _run
                    self._tasks.append(_CALLS.start(run, (function, self._outcomes)))
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._context.cancel()
        for task in self._tasks:
            _CALLS.leave(task)

    def __len__(self) -> int:
        return len(self._functions)

    @property
    def outcomes(self) -> Channel[tuple[Any, BaseException | None]]:
        return self._outcomes

    def lost(self) -> BaseExceptionGroup[Any]:
        return BaseExceptionGroup("all functions failed", self.failures)


def _run(function: Callable[[], Any], outcomes: Channel[tuple[Any, BaseException | None]]) -> None:
    try:
        outcome = (function(), None)
    except BaseException as error:  # noqa: BLE001  the racer's outcome
        outcomes.send_nowait((None, error))
    else:
        outcomes.send_nowait(outcome)


async def _run_async(function: Callable[[], Any], outcomes: Channel[tuple[Any, BaseException | None]]) -> None:
    try:
        outcome = (await function(), None)
    except BaseException as error:
        outcomes.send_nowait((None, error))
        raise
    outcomes.send_nowait(outcome)


def first(*functions: Callable[[], T]) -> T:
    """Call all functions at once, each in a thread of its own; return what the first to succeed returns.

    The others' context is cancelled, and they are not waited for: those that do not notice are abandoned calls. If all
    fail, raises an `ExceptionGroup` of their errors. Raises `Cancelled` if the ambient context ends first.
    """
    for function in functions:
        if is_async(function):
            raise TypeError(f"{function!r} is an async function; use 'await afirst()'")
    refuse_in_loop("first()", "await afirst()")
    with _Race(functions, "first") as race:
        for _ in range(len(race)):
            value, error = race.outcomes.recv()
            if error is None:
                return value  # type: ignore[no-any-return]
            race.failures.append(error)
    raise race.lost()


@overload
async def afirst(*functions: Callable[[], Awaitable[T]]) -> T: ...
@overload
async def afirst(*functions: Callable[[], Any]) -> Any: ...
async def afirst(*functions: Callable[[], Any]) -> Any:
    """As `first`, for an asyncio task to await; async functions run as asyncio tasks, others in threads."""
    with _Race(functions, "afirst") as race:
        for _ in range(len(race)):
            value, error = await race.outcomes.arecv()
            if error is None:
                return value
            race.failures.append(error)
    raise race.lost()
