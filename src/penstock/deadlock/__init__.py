"""Deadlocks: who waits for what, and what will never be woken."""

from penstock.deadlock.naming import record_sites
from penstock.deadlock.reachability import leaks
from penstock.deadlock.reporting import Report, report
from penstock.deadlock.stacks import Frame
from penstock.deadlock.tasks import ParkedTask, RunningTask, Waiting
from penstock.deadlock.watching import unwatch, watch

__all__ = [
    "Frame",
    "ParkedTask",
    "Report",
    "RunningTask",
    "Waiting",
    "leaks",
    "record_sites",
    "report",
    "unwatch",
    "watch",
]
