"""The errors that Penstock raises, beside RuntimeError, ValueError and TypeError for misuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.context import Context


class ChannelClosed(Exception):  # noqa: N818  the name is the field's
    """The channel is closed: nothing can be sent any more, and what it held has been received.

    Where the channel was closed with an error, that error is the `__cause__`.
    """


class WouldBlock(Exception):  # noqa: N818
    """The operation would have had to wait, and was asked not to."""


class OutOfCapacity(Exception):  # noqa: N818
    """There is no capacity for this now: what does not fit is rejected at once, so that the rest is served in time."""


class DeadlineExceeded(TimeoutError):  # noqa: N818
    """The deadline of a context passed. Raised at the edge of the scope whose deadline it was."""


class DeadlockError(RuntimeError):
    """All tasks are parked, and nothing is left that could wake one. Raised in the main task.

    Whoever catches it goes on; the other tasks stay parked.
    """

    def __init__(self, report: Any) -> None:
        super().__init__(f"all tasks are asleep, and nothing is left that could wake one\n\n{report}")
        self.report = report
        """Who waits for what: see `penstock.deadlock.report`."""


class Cancelled(BaseException):
    """The ambient context has ended: it was cancelled, or its deadline has passed.

    Not an `Exception`, so that code which retries on errors does not swallow it. Let it pass: the scope that ended
    stops it at its edge.
    """

    def __init__(self, message: str = "context cancelled", *, cause: Any = None, origin: Context | None = None) -> None:
        super().__init__(message)
        self._cause = cause
        self.origin = origin
        """The context that ended first: the ambient one, or one above it."""

    @property
    def cause(self) -> Any:
        """Why: the first cause given to the context that ended, else that context's `error`."""
        if self._cause is None and self.origin is not None:
            return self.origin.cause
        return self._cause


def without_endings_of(context: object, group: BaseExceptionGroup[Any]) -> BaseExceptionGroup[Any] | None:
    """What is left of a group of errors without those that say that `context` has ended."""

    def is_ending(error: BaseException) -> bool:
        return isinstance(error, Cancelled) and error.origin is context

    return group.split(is_ending)[1]
