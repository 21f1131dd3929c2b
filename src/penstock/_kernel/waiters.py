"""Waiting: who waits (Waiter), for what (Source), and the link between the two (Node).

A parked operation is one Waiter with a Node in the queue of each Source that could let it go on: a channel, a lock, the
ambient context. Exactly one of them does.

Invariants
  W1. A waiter's state leaves WAITING once, by compare-and-swap. Whoever swaps decides the outcome: a node that fires,
      the clock, or the task itself, which gives up.
  W2. A node fires under its source's lock, and all that it carries is written before that lock is released. Who saw the
      state by another way than being woken takes that lock once (`synchronise`) before reading the node.
  W3. A node stands in one queue at most, and `node.queue` names it; both are guarded by the source's lock. Nodes whose
      waiter has been decided otherwise may still stand there: whoever meets one passes it over.
  W4. Waiters are woken after every lock has been released. Each fired waiter is woken once.
  W5. When an operation returns or raises, none of its nodes stands in a queue, its waiter refers to none of them, and
      none to another: what fired may go on to stand in a channel, and must not keep there what has not happened.
  W6. Who takes a waiter's nodes has them for itself: its task, or who finds that its loop is closed.
"""

from __future__ import annotations

import os
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        EXPIRED,
        FIRED,
        WAITING,
        WITHDRAWN,
        Atomic,
        Lock,
        atomic_cas,
        atomic_load,
        guarded_cas,
        lock_drop,
        lock_take,
        shared,
        thread_ident,
    )

COMPILED: bool = cython.compiled
"""Has the kernel been compiled? If not, it runs interpreted, with the same behaviour."""

generation = 0  # Counts forks: in a child process nobody waits any more.


class Node:
    """One waiter's place at one source. `value`, `ok`, `amount` and `kind` mean what the source says they mean."""

    __slots__ = (
        "amount",
        "index",
        "kind",
        "next",
        "ok",
        "previous",
        "queue",
        "sibling",
        "since",
        "slot",
        "source",
        "value",
        "waiter",
    )

    def __init__(self) -> None:
        self.waiter: Waiter | None = None
        self.queue: Queue | None = None
        self.previous: Node | None = None
        self.next: Node | None = None
        self.sibling: Node | None = None
        self.amount = 0
        self.index = 0
        self.since = 0.0
        self.ok = False

    def fire(self) -> bool:
        """Under the source's lock: decide the waiter in favour of this node. False: it was decided already."""
        return self.waiting() and atomic_cas(self.waiter._state, WAITING, FIRED + self.slot)

    def waiting(self) -> bool:
        return (
            self.waiter is not None
            and atomic_load(self.waiter._state) == WAITING
            and self.waiter._generation == generation
        )


def new_node(waiter: Waiter, source: Source, kind: int, value: Any) -> Node:
    """A node of `waiter` at `source`, not queued yet."""
    node = Node.__new__(Node)
    if not cython.compiled:
        node.__init__()  # type: ignore[misc]  # compiled, a new node is empty already
    node.waiter = waiter
    node.source = source
    node.kind = kind
    node.value = shared(value)
    waiter.add(node)
    return node


class Queue:
    """Nodes, first come first served. Every method: under the source's lock."""

    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first: Node | None = None
        self.last: Node | None = None

    def append(self, node: Node) -> None:
        node.queue = self
        node.previous = self.last
        if self.last is None:
            self.first = node
        else:
            self.last.next = node
        self.last = node

    def prepend(self, node: Node) -> None:
        node.queue = self
        node.next = self.first
        if self.first is None:
            self.last = node
        else:
            self.first.previous = node
        self.first = node

    def insert_before(self, node: Node, later: Node) -> None:
        if later.previous is None:
            self.prepend(node)
            return
        node.queue = self
        node.previous = later.previous
        node.next = later
        later.previous.next = node
        later.previous = node

    def remove(self, node: Node) -> None:
        if node.previous is None:
            self.first = node.next
        else:
            node.previous.next = node.next
        if node.next is None:
            self.last = node.previous
        else:
            node.next.previous = node.previous
        node.previous = None
        node.next = None
        node.queue = None

    def next_waiting(self) -> Node | None:
        """The first node that can still fire; those before it are passed over for good."""
        while True:
            node = self.first
            if node is None or node.waiting():
                return node
            self.remove(node)

    def fire_next(self) -> Node | None:
        """Take out the first node that can fire, and fire it."""
        while True:
            node = self.first
            if node is None:
                return None
            self.remove(node)
            if node.fire():
                return node

    def count(self) -> int:
        """How many nodes can still fire."""
        count = 0
        node = self.first
        while node is not None:
            if node.waiting():
                count += 1
            node = node.next
        return count


class Source:
    """Something that tasks wait for: a lock, and queues of nodes that the subclasses keep."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        if not cython.compiled:
            self._lock = Lock()

    def _departed(self, node: Node) -> Waiter | None:
        """Under the lock: `node` has left its queue without firing. The waiters that may go on because of it."""
        return None

    def discard(self, node: Node) -> bool:
        """Take `node` out of its queue, if it still stands there."""
        chain = None
        lock_take(self._lock)
        try:
            if node.queue is not None:
                node.queue.remove(node)
                chain = self._departed(node)
        finally:
            lock_drop(self._lock)
        if chain is not None:
            wake_all(chain)
        return True

    def take_back(self, node: Node) -> bool:
        """Undo what happened when `node` fired, if that can still be done."""
        return True

    def synchronise(self) -> None:
        """Wait until whoever holds the lock has written what it was writing."""
        lock_take(self._lock)
        lock_drop(self._lock)


class Waiter:
    """One parked operation of one task. How the task sleeps and is woken is the subclasses' business."""

    __slots__ = (
        "__weakref__",
        "_deadline",
        "_failure",
        "_generation",
        "_ident",
        "_leaving",
        "_next",
        "_nodes",
        "_operation",
        "_patient",
        "_since",
        "_slots",
        "_state",
    )

    def __init__(self) -> None:
        self.begin()
        if not cython.compiled:
            self._state = Atomic()
            self._leaving: Atomic  # Of the compiled kernel alone, whose references must not be taken twice.
            self._slots = 0
            self._patient = False
            self._next: Waiter | None = None
            self._nodes: Node | None = None
            self._operation: str | None = None
            self._failure: BaseException | None = None
            self._deadline = self._since = 0.0

    def begin(self) -> None:
        """Note in which process and thread it waits."""
        self._generation = generation
        self._ident = thread_ident()

    def add(self, node: Node) -> None:
        node.slot = self._slots
        self._slots += 1
        node.sibling = self._nodes
        self._nodes = node

    def waiting(self) -> bool:
        """Is it parked, or about to be, in an operation that has not been decided?"""
        return self._operation is not None and atomic_load(self._state) == WAITING and self._generation == generation

    def expire(self) -> bool:
        """Decide for the clock. False: it was decided already."""
        return bool(atomic_cas(self._state, WAITING, EXPIRED))

    def fail(self, error: BaseException) -> bool:
        """Decide that the operation raises `error`, as if it had been cancelled. False: it was decided already.

        Of several callers one at a time, since the error is written first.
        """
        if atomic_load(self._state) != WAITING:
            return False
        self._failure = error
        return bool(atomic_cas(self._state, WAITING, WITHDRAWN))

    def fired(self) -> Node | None:
        """The node that fired; None if none did."""
        state = atomic_load(self._state) - FIRED
        node = self._nodes
        while node is not None and node.slot != state:
            node = node.sibling
        return node

    def discard_nodes(self, fired: Node | None) -> bool:
        """Leave every queue (W5). `fired` left its own when it fired."""
        self.leave_queues(-1 if fired is None else fired.slot)
        return True

    def leave_queues(self, slot: int) -> Node | None:
        """As `discard_nodes`; returns the node that fired, the one with that number."""
        if cython.compiled and not guarded_cas(self._leaving, 0, 1):
            return None
        node = self._nodes
        self._nodes = None
        fired = None
        while node is not None:
            if node.slot == slot:
                fired = node
            else:
                node.source.discard(node)
            following = node.sibling
            node.sibling = None
            node = following
        return fired

    def retract(self) -> bool:
        """Make the operation not have happened; False if it has, for good. Called by the task that gives up, or by who
        finds that the task can never be woken."""
        state = WAITING
        if not atomic_cas(self._state, WAITING, WITHDRAWN):
            state = atomic_load(self._state)
        # The nodes first: of two that give up, the one that has them must be the one that takes back.
        node = self.leave_queues(state - FIRED)
        if node is None or not atomic_cas(self._state, state, WITHDRAWN):
            return True  # Nothing had happened, or it has been given up already.
        node.source.synchronise()
        node.waiter = None
        if node.source.take_back(node):
            return True
        self._nodes = node
        atomic_cas(self._state, WITHDRAWN, state)
        if cython.compiled:
            guarded_cas(self._leaving, 1, 0)
        return False

    def wake(self) -> bool:
        """Let the task run on. False if it never will, since its event loop has been closed."""
        raise NotImplementedError

    def park(self, deadline: float) -> None:
        """Sleep until woken or until the clock passes `deadline`; raises what a signal handler raises meanwhile."""
        raise NotImplementedError

    def redeliver(self, error: BaseException) -> None:
        """`error` interrupted an operation that has happened: raise it at the next opportunity instead."""
        raise NotImplementedError


def chained(first: Waiter | None, last: Waiter | None, added: Waiter) -> Waiter:
    """Under a lock: put `added` behind `last`; returns the chain's first waiter."""
    if first is None or last is None:
        return added
    last._next = added
    return first


def wake_all(waiter: Waiter | None) -> bool:
    """Wake a chain of waiters, first to last. No lock is held."""
    while waiter is not None:
        following = waiter._next
        waiter._next = None
        if not waiter.wake():
            waiter.retract()
        waiter = following
    return True


def _after_fork() -> None:
    global generation
    generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Done:
    """The awaitable of an operation that has happened already: awaiting it does not suspend.

    It passes for a coroutine, so that it can be made a task. Throwing into it changes nothing.
    """

    __slots__ = ()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        raise StopIteration

    def send(self, value: Any) -> Any:
        raise StopIteration

    def throw(self, *error: Any) -> Any:
        raise StopIteration

    def close(self) -> None:
        """Nothing is left to do."""


DONE = Done()
