"""Contexts: the tree of cancellation, deadlines and values that every parking operation obeys."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, final

from penstock._kernel.scopes import Scope, ambient_variable
from penstock.channel import Channel, DoneChannel

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from penstock.errors import Cancelled, DeadlineExceeded

    def current() -> Context: ...
    def cancel_scope() -> Context: ...
    def fail_after(seconds: float) -> Context: ...
    def move_on_after(seconds: float) -> Context: ...

else:
    from penstock._kernel.scopes import cancel_scope, current, fail_after, move_on_after

__all__ = ["Context", "cancel_scope", "current", "fail_after", "move_on_after"]


@final
class Context(Scope):
    """A node in the tree of contexts, after Go's `context` package.

    A context ends when it is cancelled, when its deadline passes, or when the context it was derived from ends. From
    then on every parking operation under it raises `Cancelled`; one that is parked is woken to do so. Contexts are
    derived from others, from `Context.background()` at the root, and never change except by ending.

    As a scope, `with context:` makes it ambient inside the block, and cancels it at the end. `async with context:` also
    interrupts whatever the task awaits inside the block when the context ends. All of it is thread-safe.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def with_cancel(self) -> Context: ...
        def with_timeout(self, seconds: float, cause: Any = None) -> Context: ...
        def with_deadline(self, deadline: float, cause: Any = None) -> Context: ...
        def with_value(self, key: object, value: object) -> Context: ...
        def without_cancel(self) -> Context: ...
        def check(self) -> None: ...
        @property
        def error(self) -> Cancelled | DeadlineExceeded | None: ...
        def __enter__(self) -> Context: ...

    def __init_subclass__(cls, **options: Any) -> None:
        raise TypeError("Context cannot be subclassed; carry what it lacks with with_value()")

    @staticmethod
    def background() -> Context:
        """The root: never ends, has no deadline and no values."""
        return _BACKGROUND

    @property
    def done(self) -> DoneChannel:
        """A receiving channel that is closed when this context ends; true once it is. For `select`."""
        return DoneChannel(self._done_channel())

    def _done_channel(self) -> Channel[None]:
        channel: Channel[None] | None = self.done_channel()
        return self.closed_at_end(Channel()) if channel is None else channel

    def after_func(self, function: Callable[[], object]) -> Callable[[], bool]:
        """Call `function` in a task of its own once this context ends.

        Returns a function that stops that: True if `function` will not be called because of it, False if it has been
        started, or was stopped before. An exception of `function` is reported like a thread's.
        """
        if not callable(function):
            raise TypeError(f"after_func() takes a function without arguments, not {function!r}")
        if iscoroutinefunction(function):
            raise TypeError(
                f"after_func() calls {function!r} in a thread; an async function has to be awaited in a loop"
            )
        return self.call_at_end(Callback(function))  # type: ignore[no-any-return]

    def attach(self) -> Attachment:
        """For `with`: make this context ambient inside the block, and no more than that. Any number of times."""
        return Attachment(self)

    async def __aenter__(self) -> Context:
        self.enter_async()
        return self

    def __str__(self) -> str:
        own = self.description()
        return own if self.parent is None else f"{self.parent}.{own}"

    def __repr__(self) -> str:
        return f"<Context {self}{'' if self.error is None else ' ended'}>"


@final
class Attachment:
    """Makes a context ambient for the time of a block."""

    __slots__ = ("__weakref__", "_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._token: Token[Scope | None] | None = None

    def __enter__(self) -> Context:
        if self._token is not None:
            raise RuntimeError("this attachment is in use; call attach() for each block")
        self._token = ambient_variable.set(self._context if self._context.parent is not None else None)
        return self._context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            ambient_variable.reset(token)

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class Callback:
    """A function given to `after_func`. A thread that works at it is known by the frame of this call."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def __call__(self) -> None:
        self._function()


_BACKGROUND: Context = Context.root()
