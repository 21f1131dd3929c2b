"""report(): who is parked, what for, since when, where, and who has to act (contract section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from parking import release_all

from penstock import Condition, Group, Mutex, Once, RWMutex, WaitGroup
from penstock._kernel.threads import ThreadWaiter
from penstock._kernel.waiters import Node
from penstock.deadlock import report
from penstock.group import Task
from penstock.sync import Side

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Nothing stays parked after a test."""
    release_all()
    yield
    release_all()


def test_what_is_being_made() -> None:
    """Another thread may be about to make a task, a lock, or what it parks by: these have nothing yet."""
    kinds: tuple[Any, ...] = (Condition, Group, Mutex, Node, Once, RWMutex, Side, Task, ThreadWaiter, WaitGroup)
    made = {kind: kind.__new__(kind) for kind in kinds}
    try:
        assert report().tasks == ()
    finally:
        made[Task]._error = None  # Its finalizer looks.
