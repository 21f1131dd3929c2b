"""Measuring: scenarios, contenders, interleaved rounds, ratios."""

from __future__ import annotations

import gc
import statistics
import threading
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class UnavailableError(Exception):
    """A peer is not on this machine."""


SHORT = 0.01
"""Seconds: rounds that take less show that something works, and measure nothing."""


@dataclass(frozen=True)
class Scenario:
    """The same work done by Penstock and by its peers. The target is about the first peer."""

    name: str
    ours: Callable[[int], float]
    peers: dict[str, Callable[[int], float]]
    target: tuple[float, float] | None = None
    """The ratio to be reached: with the GIL, free-threaded."""
    unit: str = "ns"
    """Of one operation: "ns", or "bytes"."""
    operations: int | None = None
    """How many a round is made of, where that matters; otherwise as many as take a while."""


@dataclass
class Outcome:
    """What one operation cost, ours and a peer's: medians, and the median of the rounds' ratios."""

    scenario: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    unit: str
    target: float | None = None
    spread: tuple[float, float] = field(default=(0.0, 0.0))
    """The smallest and the largest ratio of a round."""

    @property
    def reached(self) -> bool | None:
        """Whether the target was; None if there is none."""
        return None if self.target is None else self.ratio <= self.target


def in_threads(*works: Callable[[], object]) -> float:
    """How long it takes to do all of them, each in a thread of its own."""
    threads = [threading.Thread(target=work) for work in works]
    start = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return perf_counter() - start


def calibrated(run: Callable[[int], float], seconds: float) -> int:
    """How many operations take about that long."""
    n = 8
    while True:
        took = run(n)
        if took >= seconds / 4 or n >= 1 << 24:
            return max(1, min(1 << 24, int(n * seconds / max(took, 1e-9))))
        n *= 4


def size_of_round(scenario: Scenario, run: Callable[[int], float], seconds: float) -> int:
    """How many operations of a scenario a contender does in a round of so many seconds, or more."""
    if scenario.unit == "bytes":
        return 1000
    size = calibrated(run, seconds)
    return size if scenario.operations is None or seconds < SHORT else scenario.operations


def measure(scenario: Scenario, rounds: int, seconds: float, free_threaded: bool) -> tuple[list[Outcome], list[str]]:
    """The outcomes against each peer, and which peers are unavailable, and why."""
    contenders = {"penstock": scenario.ours, **scenario.peers}
    missing = []
    sizes = {}
    for name, run in contenders.items():
        try:
            sizes[name] = size_of_round(scenario, run, seconds)
        except (ImportError, UnavailableError) as error:
            missing.append(f"{scenario.name}: {name}: {error}")
    if "penstock" not in sizes:
        return [], missing
    scale = 1.0 if scenario.unit == "bytes" else 1e9
    costs: dict[str, list[float]] = {name: [] for name in sizes}
    for _ in range(rounds):
        for name, n in sizes.items():
            gc.collect()
            costs[name].append(contenders[name](n) / n * scale)
    outcomes = []
    for number, peer in enumerate(scenario.peers):
        if peer not in costs:
            continue
        ratios = [mine / theirs for mine, theirs in zip(costs["penstock"], costs[peer], strict=True)]
        outcomes.append(
            Outcome(
                scenario.name,
                peer,
                statistics.median(costs["penstock"]),
                statistics.median(costs[peer]),
                statistics.median(ratios),
                scenario.unit,
                scenario.target[free_threaded] if number == 0 and scenario.target is not None else None,
                (min(ratios), max(ratios)),
            )
        )
    return outcomes, missing
