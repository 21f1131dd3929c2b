"""Starting tasks as Go's `go` statement does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import penstock

if TYPE_CHECKING:
    from collections.abc import Callable


def go(function: Callable[..., Any], *args: Any) -> None:
    """Start a task that goes on when its starter ends: a goroutine belongs to nobody.

    What a task starts by `penstock.go` inherits the task's context, and that ends with the task.
    """
    with penstock.Context.background().attach():
        penstock.go(function, *args)
