"""The wait-for graph, and its circles."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.deadlock.tasks import ParkedTask, Waiting

Cycle: TypeAlias = "tuple[tuple[str, str], ...]"
"""Names of tasks, each with what it waits for, which is up to the next; the last one's to the first."""


def described(waiting: Waiting) -> str:
    """What is waited for, without its holders."""
    return waiting.name or waiting.kind


def cycles(tasks: Sequence[ParkedTask]) -> tuple[Cycle, ...]:
    """The circles among tasks that have one thing alone to wait for: a select has others. Each task is in one."""
    edges = {
        task.name: [(described(task.waits_for[0]), holder) for holder in task.waits_for[0].holders]
        for task in tasks
        if len(task.waits_for) == 1 and task.deadline is None
    }
    found: list[Cycle] = []
    finished: set[str] = set()
    for start, own in edges.items():
        path: list[tuple[str, str]] = []
        places: dict[str, int] = {}
        # Depth first, without recursion: for each task on the path, the edges not yet followed.
        pending = [(start, iter(own))]
        places[start] = 0
        while pending:
            name, rest = pending[-1]
            if name in finished:
                pending.pop()
                places.pop(name, None)
                continue
            edge = next(rest, None)
            if edge is None:
                finished.add(name)
                pending.pop()
                places.pop(name, None)
                if path:
                    path.pop()
                continue
            waiting, holder = edge
            if holder in places:
                found.append((*path[places[holder] :], (name, waiting)))
                finished.update(task for task, _ in found[-1])
                continue
            if holder in edges and holder not in finished:
                path.append((name, waiting))
                places[holder] = len(path)
                pending.append((holder, iter(edges[holder])))
    return tuple(found)
