"""The other patterns, each as small as it gets: fan-in, fan-out, sharding, bounded parallelism, backpressure.

    python examples/usage.py

Real programs are beside this one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock import Channel, Group, OutOfCapacity, PressureGauge, ShardedMap, WaitGroup, fan_in, fan_out, for_each

if TYPE_CHECKING:
    from collections.abc import Iterable


def source(values: Iterable[int]) -> Channel[int]:
    """A channel that gives some values, and is closed behind the last."""
    channel: Channel[int] = Channel()

    def send() -> None:
        with channel:
            for value in values:
                channel.send(value)

    group.go(send)
    return channel


def fan_in_of_three() -> None:
    """Three sources, read as one."""
    merged = fan_in(source(range(3)), source(range(10, 13)), source(range(20, 23)))
    print("fan-in:", sorted(merged))


def fan_out_to_five() -> None:
    """One source, shared by five workers, each with an output of its own."""
    received: Channel[int] = Channel(10)
    waiting = WaitGroup()
    for output in fan_out(source(range(10)), 5):

        def work(output: Iterable[int] = output) -> None:
            for value in output:
                received.send(value)

        waiting.go(work)
    waiting.wait()
    received.close()
    print("fan-out:", sorted(received))


def five_shards() -> None:
    """A map in five parts."""
    letters: ShardedMap[str, int] = ShardedMap(5)
    for number, name in enumerate(("alpha", "beta", "gamma"), 1):
        letters[name] = number
    print("sharding:", letters["alpha"], letters["beta"], letters["gamma"], sorted(letters))


def three_at_once() -> None:
    """Any number of items, three at work at any time."""
    at_work: list[str] = []
    most: list[int] = []

    def process(item: str) -> None:
        at_work.append(item)
        most.append(len(at_work))
        time.sleep(0.005)
        at_work.remove(item)

    for_each(process, (f"item {number}" for number in range(20)), limit=3)
    print("bounded parallelism:", len(most), "items,", max(most), "at once")


def what_does_not_fit() -> None:
    """Two at work; a third is refused at once, as a server should answer it: with status 429."""
    gauge = PressureGauge(2)

    def handle(depth: int) -> str:
        if depth == 0:
            return "200 done"
        try:
            return gauge.do(handle, depth - 1)
        except OutOfCapacity:
            return "429 too many requests"

    print("backpressure:", handle(2), "|", handle(3))


if __name__ == "__main__":
    with Group() as group:
        fan_in_of_three()
        fan_out_to_five()
        five_shards()
        three_at_once()
        what_does_not_fit()
