"""Waiting for what other threads are about to do."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 20


def until(condition: Callable[[], Any]) -> None:
    """Wait until `condition` holds; fail if it does not before long."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        time.sleep(0.002)


def until_collected(condition: Callable[[], Any]) -> None:
    """As `until`, for what may have to be collected as garbage first."""

    def collected() -> Any:
        holds = condition()
        if not holds:
            gc.collect()
        return holds

    until(collected)
