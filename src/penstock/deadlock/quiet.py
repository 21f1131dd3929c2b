"""Waiting until what runs has parked, so that what is parked for ever can be told from what is under way."""

from __future__ import annotations

from penstock._kernel.inspection import parked_operations
from penstock._kernel.locks import now
from penstock._kernel.threads import idle_workers, worker_count
from penstock.time import sleep

LOOK_AGAIN = 0.01


def _all_parked() -> bool:
    """Are the library's threads parked, apart from those without work? Some may have been woken a moment ago."""
    parked = {operation.thread for operation in parked_operations() if operation.future is None}
    return len(parked) >= worker_count() - len(idle_workers())


def wait_until_parked(patience: float) -> None:
    """Until the library's threads are parked or idle, for at most `patience` seconds."""
    end = now() + patience
    while not _all_parked() and now() < end:
        sleep(LOOK_AGAIN)
