"""What the tests of reports and leaks share: telling what is parked, and letting it go again."""

from __future__ import annotations

import gc
import time

from waiting import LIMIT

from penstock import Cancelled
from penstock._kernel.inspection import fail, parked_operations


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
