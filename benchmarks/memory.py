"""Memory: of a channel, and of an asyncio task parked on one."""

from __future__ import annotations

import asyncio
import gc
import queue
import tracemalloc
from typing import TYPE_CHECKING, Any

from harness import Scenario

from penstock import Channel

if TYPE_CHECKING:
    from collections.abc import Callable


def of_objects(make: Callable[[], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        made = [None] * n
        tracemalloc.start()
        for number in range(n):
            made[number] = make()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    return run


def of_parked_tasks(make: Callable[[], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        async def main() -> float:
            park = make()
            tasks: list[Any] = [None] * n
            gc.collect()
            tracemalloc.start()
            for number in range(n):
                tasks[number] = asyncio.create_task(park())
            await asyncio.sleep(0)
            size = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return size

        return asyncio.run(main())

    return run


SCENARIOS = [
    Scenario(
        "memory of a channel",
        of_objects(Channel),
        {
            "queue.SimpleQueue": of_objects(queue.SimpleQueue),
            "queue.Queue": of_objects(queue.Queue),
            "asyncio.Queue": of_objects(asyncio.Queue),
        },
        unit="bytes",
    ),
    Scenario(
        "memory of a parked task",
        of_parked_tasks(lambda: Channel[int]().arecv),
        {"asyncio.Queue": of_parked_tasks(lambda: asyncio.Queue[int]().get)},
        unit="bytes",
    ),
]
