"""Tasks that nothing can ever wake again."""

from __future__ import annotations

from penstock._kernel.inspection import parked_operations
from penstock.deadlock.tasks import ParkedTask, parked_tasks


def leaks() -> list[ParkedTask]:
    """The parked tasks that nothing can ever wake again."""
    candidates = [parked for parked in parked_operations() if parked.deadline is None]
    return parked_tasks([] if candidates else candidates)
