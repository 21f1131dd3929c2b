"""What the tests of reports and leaks share: waiting until tasks are parked, and letting them go again."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

from penstock import Cancelled
from penstock._kernel.inspection import fail, parked_operations

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 20


def until(condition: Callable[[], Any]) -> None:
    """Wait until `condition` holds; fail if it does not before long."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        time.sleep(0.005)


def parked(*operations: str) -> bool:
    """Are exactly these operations parked, in any order?"""
    return sorted(one.operation for one in parked_operations()) == sorted(operations)


def release_all() -> None:
    """End whatever is parked, by an error that is nobody's failure."""
    deadline = time.monotonic() + LIMIT
    while True:
        found = parked_operations()
        for one in found:
            fail(one, Cancelled())
        if not found:
            break
        assert time.monotonic() < deadline, "something parks again and again"
        del found, one
        time.sleep(0.005)
    gc.collect()
