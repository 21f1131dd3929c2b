"""Waiting until what runs has parked, so that what is parked for ever can be told from what is under way."""

from __future__ import annotations

from penstock._kernel.inspection import parked_operations
from penstock._kernel.locks import now
from penstock._kernel.threads import idle_workers, sleeping_threads, worker_count
from penstock._kernel.timers import idle_service
from penstock.time import sleep

LOOK_AGAIN = 0.01


def _all_parked() -> bool:
    """Are the library's threads parked, apart from those without work, and asleep?

    Some may have been woken a moment ago; and of one that is just about to sleep, not all is known that it refers to.
    """
    parked = {operation.thread for operation in parked_operations() if operation.future is None}
    idle = idle_workers()
    asleep = {*parked, *idle, idle_service()} - {0}
    return len(parked) >= worker_count() - len(idle) and sleeping_threads() >= len(asleep)


def wait_until_parked(patience: float) -> None:
    """Until the library's threads are parked or idle, for at most `patience` seconds."""
    end = now() + patience
    while not _all_parked() and now() < end:
        sleep(LOOK_AGAIN)
