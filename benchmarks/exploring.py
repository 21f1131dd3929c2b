"""How fast schedules are explored: python benchmarks/exploring.py [SECONDS]

A step is what lies between two switch points. A switch is a step after which another task goes on: for tasks in
threads, one thread goes to sleep and another is woken. One task at a time is at work, so this is what one core does.
"""

from __future__ import annotations

import itertools
import platform
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import penstock
from penstock import Channel, Group, Mutex, asleep
from penstock.testing import explore
from penstock.testing.world import ExploredWorld

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = 100
ROUNDS = 10
TARGET = 20_000


def ping_pong() -> None:
    """Two tasks in threads; each waits for the other."""
    there, back = Channel[int](), Channel[int]()

    def answer() -> None:
        for value in there:
            back.send(value)

    with Group() as group:
        group.go(answer)
        for number in range(TURNS):
            there.send(number)
            back.recv()
        there.close()


def contended() -> None:
    """Four tasks in threads that want one lock."""
    mutex = Mutex()

    def work() -> None:
        for _ in range(TURNS):
            with mutex:
                pass

    with Group() as group:
        for _ in range(4):
            group.go(work)


async def tasks_of_one_loop() -> None:
    """Two asyncio tasks; each waits for the other."""
    there, back = Channel[int](), Channel[int]()

    async def answer() -> None:
        async for value in there:
            await back.asend(value)

    async with Group() as group:
        group.go(answer)
        for number in range(TURNS):
            await there.asend(number)
            await back.arecv()
        await asleep(0)
        there.close()


class Counts:
    """Of all worlds that there were: the steps, and those after which another task went on."""

    def __init__(self) -> None:
        self.steps = self.switches = 0
        self._before: Any = ExploredWorld.unwind

    def __enter__(self) -> Self:
        def unwind(world: ExploredWorld, patience: float) -> None:
            self.steps += world.steps
            who = [number for number, _ in world.trace]
            self.switches += sum(one != other for one, other in itertools.pairwise(who))
            self._before(world, patience)

        ExploredWorld.unwind = unwind  # type: ignore[method-assign]
        return self

    def __exit__(self, *_error: object) -> None:
        ExploredWorld.unwind = self._before  # type: ignore[method-assign]


def measure(scenario: Callable[[], Any], strategy: str, seconds: float) -> tuple[float, float, float]:
    """Schedules, steps and switches per second, in the best of some rounds: what else the machine does is no matter."""
    best = (0.0, 0.0, 0.0)
    seed = 0
    for _ in range(ROUNDS if seconds >= 1 else 1):
        schedules = 0
        with Counts() as counts:
            begin = time.perf_counter()
            while (took := time.perf_counter() - begin) < seconds / ROUNDS:
                schedules += explore(scenario, schedules=10, seed=seed, strategy=strategy).schedules
                seed += 1
        best = max(best, (schedules / took, counts.steps / took, counts.switches / took), key=lambda each: each[2])
    return best


def main() -> None:
    """Measure, and print as each is done."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    kernel = "compiled" if penstock.COMPILED else "interpreted"
    print(f"Python {platform.python_version()}{' free-threaded' if free_threaded else ''}, kernel {kernel}")
    print(f"{'':34}{'schedules/s':>12}{'steps/s':>10}{'switches/s':>12}")
    for scenario in (ping_pong, contended, tasks_of_one_loop):
        for strategy in ("random", "pct"):
            each, steps, switches = measure(scenario, strategy, seconds)
            print(f"{scenario.__name__:20}{strategy:14}{each:>12,.0f}{steps:>10,.0f}{switches:>12,.0f}", flush=True)
    print(f"The target is {TARGET:,} switches per second.")


if __name__ == "__main__":
    main()
