"""Starting functions as Go does: what is started belongs to nobody, and goes on when its starter ends.

What a task starts by Penstock's own means inherits the task's context, which ends with the task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import penstock
from penstock import Context

if TYPE_CHECKING:
    from collections.abc import Callable


def go(function: Callable[..., Any], *args: Any) -> None:
    """Start a goroutine."""
    with Context.background().attach():
        penstock.go(function, *args)


def after_func(seconds: float, function: Callable[[], object]) -> Callable[[], bool]:
    """Start a goroutine after that time. Returns what stops that: True if it will not be started because of it."""
    with Context.background().attach():
        return Context.background().with_timeout(seconds).after_func(function)
