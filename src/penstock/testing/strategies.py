"""Strategies: which of the possible schedules to try. Each is an oracle that the world asks.

random   each choice by lot
pct      priorities by lot, changed at a few steps by lot
dfs      all, one after the other, those with few preemptions first
follow   one that is known
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from penstock.testing.schedules import CLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    Footprint = frozenset[int] | None
    """What a step touches; None: it may be anything."""


class PrunedError(Exception):
    """The schedule under way is not worth going on with: it is "redundant", like one that has been tried; or
    "different": the scenario does something else than it did before under the same choices; or "cut": only the clock
    keeps it going."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail


class Strategy:
    """What the world asks, during one schedule after the other."""

    exhausted = False
    """Have all schedules been tried?"""
    repeated = False
    """Was the last schedule one that had been tried before?"""

    def begin(self) -> bool:
        """A new schedule. False if there is none left."""
        return True

    def pick(self, options: Sequence[int], preempting: bool) -> int:
        """Who goes next: one of `options`, two at least. The first is the default.

        With `preempting`, the first is at work and could go on.
        """
        raise NotImplementedError

    def choose(self, n: int) -> int:
        """One of range(n), for a choice that is not about tasks."""
        raise NotImplementedError

    def demote(self, task: int) -> None:
        """`task` polls in vain: others should go first."""

    def stepped(self, task: int, footprint: Footprint) -> None:
        """`task`, or the CLOCK, has done a step that touched `footprint`."""

    def end(self, steps: int) -> None:
        """The schedule has ended, after so many steps."""


class ByLot(Strategy):
    """Each choice with the same probability."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311  to be repeated

    def pick(self, options: Sequence[int], preempting: bool) -> int:  # noqa: ARG002
        return self._random.choice(options)

    def choose(self, n: int) -> int:
        return self._random.randrange(n)


class Priorities(Strategy):
    """Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatti: "A randomized scheduler with
    probabilistic guarantees of finding bugs", ASPLOS 2010).

    Each task has a priority by lot, and the highest that can run runs. At d - 1 steps by lot the task at work falls
    below all others. With n tasks and k steps, a bug that needs d orderings is found by one schedule with a probability
    of 1 / (n k^(d - 1)) at least. The depth d goes from 1 to 5 and again; the clock counts as a task.

    A task that could run and is passed over for STARVED choices goes before those that ran meanwhile: otherwise one
    that waits for it, and starts others while it does, would go on for ever.
    """

    DEPTHS = 5
    PERIOD = 64
    STARVED = 4 * PERIOD

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311  to be repeated
        self._schedules = 0
        self._longest = 32
        self._priorities: dict[int, float] = {}
        self._lowest = 0.0
        self._changes: set[int] = set()
        self._step = 0
        self._ran: set[int] = set()
        self._hungry: dict[int, int] = {}

    def begin(self) -> bool:
        self._ran = set()
        self._hungry = {}
        depth = 1 + self._schedules % self.DEPTHS
        self._schedules += 1
        self._priorities = {}
        self._lowest = 0.0
        self._step = 0
        self._changes = {self._random.randrange(1, self._longest + 1) for _ in range(depth - 1)}
        return True

    def pick(self, options: Sequence[int], preempting: bool) -> int:  # noqa: ARG002
        self._step += 1
        priorities = self._priorities
        for task in options:
            if task not in priorities:
                priorities[task] = self._random.random()
        chosen = max(options, key=priorities.__getitem__)
        if self._step in self._changes:
            self.demote(chosen)
            chosen = max(options, key=priorities.__getitem__)
        self._ran.add(chosen)
        if self._step % self.PERIOD == 0:
            self._feed(options)
        return chosen

    def _feed(self, options: Sequence[int]) -> None:
        """Those that were passed over for too long go before those that were not."""
        ran, self._ran = self._ran, set()
        self._hungry = {task: self._hungry.get(task, 0) + self.PERIOD for task in options if task not in ran}
        self._hungry.pop(CLOCK, None)
        if self.STARVED in self._hungry.values():
            for task in sorted(ran, key=self._priorities.__getitem__, reverse=True):
                self.demote(task)
            self._hungry = {}

    def choose(self, n: int) -> int:
        return self._random.randrange(n)

    def demote(self, task: int) -> None:
        self._lowest -= 1.0
        self._priorities[task] = self._lowest

    def end(self, steps: int) -> None:  # noqa: ARG002  only those with a choice count
        self._longest = max(self._longest, self._step)


class _Decision:
    """A place in the tree of schedules, and what has been tried there."""

    def __init__(self, options: Sequence[int], preemptive: bool, spent: int) -> None:
        self.options = list(options)
        self.at = 0
        self.preemptive = preemptive
        """Does each option but the first cost a preemption?"""
        self.spent = spent
        """Preemptions before it."""
        self.default_step: Footprint = None
        """What the first option's step touched."""

    def cost(self) -> int:
        return self.spent + (self.preemptive and self.at > 0)


class DepthFirst(Strategy):
    """All schedules with up to PREEMPTIONS preemptions, in the order of their number (Musuvathi, Qadeer: "Iterative
    context bounding for systematic testing of multithreaded programs", PLDI 2007).

    Partial-order reduction by sleep sets (Godefroid, 1996): after a preemption, the task that was preempted sleeps
    until somebody does a step that depends on the one it would have done, since until then the order makes no
    difference. Only preempted tasks sleep: having gone on first never costs them more preemptions, so the bound cuts
    nothing off that the sleep sets rely on. Steps are independent if both are operations on one object each, not the
    same, and neither starts a task or sets a timer, nor is it the clock's.
    """

    PREEMPTIONS = 2
    REDUCES = True
    """Is there partial-order reduction?"""

    def __init__(self) -> None:
        self._bound = 0
        self._path: list[_Decision] = []
        self._depth = 0
        self._spent = 0
        self._asleep: dict[int, Footprint] = {}
        self._unstepped: _Decision | None = None
        self._fresh = True

    def begin(self) -> bool:
        if not self._fresh and not self._advance():
            if self._bound == self.PREEMPTIONS:
                self.exhausted = True
                return False
            self._bound += 1
            self._path = []
        self._fresh = False
        self._depth = self._spent = 0
        self._asleep = {}
        self._unstepped = None
        return True

    @property
    def repeated(self) -> bool:  # type: ignore[override]
        """With fewer preemptions than the bound, it has been tried under a lower bound."""
        return self._spent < self._bound

    def _advance(self) -> bool:
        """The next untried option, as deep in the tree as there is one."""
        while self._path:
            decision = self._path[-1]
            decision.at += 1
            if decision.at < len(decision.options) and decision.cost() <= self._bound:
                return True
            self._path.pop()
        return False

    def pick(self, options: Sequence[int], preempting: bool) -> int:
        awake = [task for task in options if task not in self._asleep]
        if not awake:
            raise PrunedError("redundant")
        decision = self._decide(awake, preempting and awake[0] == options[0])
        if decision.preemptive and decision.at == 0:
            self._unstepped = decision
        elif decision.preemptive and self.REDUCES:
            self._asleep[decision.options[0]] = decision.default_step
        self._spent = decision.cost()
        return decision.options[decision.at]

    def choose(self, n: int) -> int:
        decision = self._decide(range(n), preemptive=False)
        return decision.options[decision.at]

    def _decide(self, options: Sequence[int], preemptive: bool) -> _Decision:
        if self._depth == len(self._path):
            self._path.append(_Decision(options, preemptive, self._spent))
        decision = self._path[self._depth]
        if decision.options != list(options):
            then, now = (", ".join(map(str, each)) for each in (decision.options, options))
            raise PrunedError("different", f"decision {self._depth}: first between {then}, then between {now}")
        self._depth += 1
        return decision

    def stepped(self, task: int, footprint: Footprint) -> None:
        if self._unstepped is not None:
            self._unstepped.default_step = footprint
            self._unstepped = None
        if self._asleep:
            self._asleep = {
                other: touched
                for other, touched in self._asleep.items()
                if other != task and touched is not None and footprint is not None and not touched & footprint
            }


class Follow(Strategy):
    """A schedule that is known; where it says nothing, the default."""

    def __init__(self, choices: dict[int, int]) -> None:
        self._choices = choices
        self._decision = 0
        self.misfit = ""
        """The first thing in the schedule that does not fit the scenario."""

    def begin(self) -> bool:
        self._decision = 0
        self.misfit = ""
        return True

    def pick(self, options: Sequence[int], preempting: bool) -> int:  # noqa: ARG002
        return self._next(options)

    def choose(self, n: int) -> int:
        return self._next(range(n))

    def _next(self, options: Sequence[int]) -> int:
        number = self._decision
        self._decision += 1
        choice = self._choices.get(number, options[0])
        if choice in options:
            return choice
        if not self.misfit:
            offered = ", ".join(map(str, options))
            self.misfit = f"at decision {number} it says {choice}, and the scenario offers {offered}"
        return options[0]

    def end(self, steps: int) -> None:  # noqa: ARG002
        if not self.misfit and self._decision <= max(self._choices, default=-1):
            self.misfit = f"it has a decision {max(self._choices)}, and the scenario ended after {self._decision}"


def strategy_named(name: str, seed: int) -> Strategy:
    """The strategy of that name."""
    if name == "random":
        return ByLot(seed)
    if name == "pct":
        return Priorities(seed)
    if name == "dfs":
        return DepthFirst()
    raise ValueError(f"the strategy must be 'pct', 'random' or 'dfs', not {name!r}")


__all__ = ["CLOCK", "Follow", "PrunedError", "Strategy", "strategy_named"]
