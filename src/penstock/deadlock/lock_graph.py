"""Which lock is taken while which other is held, and whether tasks that do so can come to wait for each other.

After the lock order graph of Havelund's "Using Runtime Analysis to Guide Model Checking of Java Programs" (2000), with
its gate locks: a circle of locks is harmless if two of its steps are made under one further lock, since then no two
tasks are inside them at the same time.

There are no locks here: what is shared are dictionaries and lists, each changed in one step. Two tasks that meet in
the same instant may both miss what only the other saw; the next time it is seen.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.deadlock.traces import Trace

MOST_STEPS = 10_000
"""So many edges are followed in search of a circle."""
MOST_WAYS = 8
"""So many sets of gate locks are remembered of an edge."""

_serials = itertools.count(1)


class LockNode:
    """What the graph knows of one lock. It does not keep the lock."""

    __slots__ = ("__weakref__", "after", "before", "kind", "reference", "serial")

    def __init__(self, lock: Any, kind: str, graph: Graph) -> None:
        self.serial = next(_serials)
        self.kind = kind
        self.after: dict[LockNode, Edge] = {}
        """The locks that were asked for while this one was held."""
        self.before: set[LockNode] = set()
        known = graph.locks
        number = id(lock)

        def gone(_: object) -> None:
            known.pop(number, None)
            self._leave()

        self.reference = weakref.ref(lock, gone)

    def _leave(self) -> None:
        for other in list(self.before):
            other.after.pop(self, None)
        for other in list(self.after):
            other.before.discard(self)
        self.after.clear()
        self.before.clear()


class Way:
    """One way in which an edge has come about."""

    __slots__ = ("gates", "held_trace", "task", "trace")

    def __init__(self, gates: frozenset[LockNode], held_trace: Trace, trace: Trace, task: str) -> None:
        self.gates = gates
        """The other locks that nobody else could hold meanwhile."""
        self.held_trace = held_trace
        self.trace = trace
        self.task = task


class Edge:
    """Somebody asked for the lock `to` while holding the lock `held`."""

    __slots__ = ("held", "to", "ungated", "ways")

    def __init__(self, held: LockNode, to: LockNode) -> None:
        self.held = held
        self.to = to
        self.ways: list[Way] = []
        self.ungated = False
        """Has it come about without any gate? Then no other way is of interest."""

    def knows(self, gates: frozenset[LockNode]) -> bool:
        """Has it come about with these gates, or fewer?"""
        return any(way.gates <= gates for way in self.ways)


class Graph:
    """All locks that are known, and the edges between them."""

    def __init__(self) -> None:
        self.locks: dict[int, LockNode] = {}

    def lock(self, lock: Any, kind: str) -> LockNode:
        """The graph's view of `lock`."""
        found = self.locks.get(id(lock))
        if found is None:
            found = self.locks.setdefault(id(lock), LockNode(lock, kind, self))
        return found

    def edge(self, held: LockNode, to: LockNode) -> Edge:
        """The edge between the two, made if need be."""
        edge = held.after.get(to)
        if edge is None:
            edge = held.after.setdefault(to, Edge(held, to))
            to.before.add(held)
        return edge

    def circle(self, edge: Edge, way: Way) -> list[tuple[Edge, Way]] | None:
        """A circle of edges that begins with this one, come about in this way, and that tasks can be caught in."""
        steps = itertools.count()
        found = self._back(edge.to, edge.held, [(edge, way)], {edge.to}, steps)
        return next(found, None)

    def _back(
        self, at: LockNode, goal: LockNode, path: list[tuple[Edge, Way]], seen: set[LockNode], steps: Iterator[int]
    ) -> Iterator[list[tuple[Edge, Way]]]:
        for edge in list(at.after.values()):
            for way in list(edge.ways):
                if next(steps) > MOST_STEPS:
                    return
                if any(way.gates & other.gates for _, other in path):
                    continue
                if edge.to is goal:
                    yield [*path, (edge, way)]
                elif edge.to not in seen:
                    yield from self._back(edge.to, goal, [*path, (edge, way)], {*seen, edge.to}, steps)
