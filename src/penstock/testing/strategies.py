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
    """The schedule under way is not worth going on with: it is "redundant", like one that has been tried, or
    "different": the scenario does something else than it did before under the same choices."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Strategy:
    """What the world asks, during one schedule after the other."""

    exhausted = False
    """Have all schedules been tried?"""

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
        """`task` has done a step that touched `footprint`."""

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
    """

    DEPTHS = 5

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311  to be repeated
        self._schedules = 0
        self._longest = 32
        self._priorities: dict[int, float] = {}
        self._lowest = 0.0
        self._changes: set[int] = set()
        self._step = 0

    def begin(self) -> bool:
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
        return chosen

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
    nothing off that the sleep sets rely on.
    """

    PREEMPTIONS = 2

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
        elif decision.preemptive:
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
            raise PrunedError("different")
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

    def begin(self) -> bool:
        self._decision = 0
        return True

    def pick(self, options: Sequence[int], preempting: bool) -> int:  # noqa: ARG002
        number = self._decision
        self._decision += 1
        choice = self._choices.get(number, options[0])
        return choice if choice in options else options[0]

    def choose(self, n: int) -> int:
        number = self._decision
        self._decision += 1
        return max(0, min(self._choices.get(number, 0), n - 1))


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
