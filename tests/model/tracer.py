"""Runs random programs, drawn from a seed, and prints what every step of every task came to.

One event loop, and a clock that stands still (a mutex goes to whoever has waited for a millisecond), so that a program
has one course. A program starts tasks that do a few operations each, cancels some, and closes some channels.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

import penstock
from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Condition,
    Context,
    Group,
    Mutex,
    RWMutex,
    Semaphore,
    WaitGroup,
    WouldBlock,
    aselect,
    cancel_scope,
)
from penstock.testing import virtual_time


class World:
    """What a program's tasks share, and what they write down."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)
        self.channels: list[Channel[Any]] = [Channel(capacity) for capacity in (0, 1, 3)]
        self.mutex = Mutex()
        self.rw = RWMutex()
        self.semaphore = Semaphore(3)
        self.condition = Condition(self.mutex)
        self.waiting = WaitGroup()
        self.context = Context.background().with_cancel()
        self.log: list[Any] = []

    async def operation(self, rng: random.Random, task: int) -> Any:
        channel = rng.choice(self.channels)
        other = rng.choice(self.channels)
        match rng.randrange(16):
            case 0:
                await channel.asend(task)
                return "sent"
            case 1:
                return await channel.arecv()
            case 2:
                return await channel.arecv_ok()
            case 3:
                channel.send_nowait(task)
                return "sent at once"
            case 4:
                return channel.recv_nowait()
            case 5:
                # One channel a case: which of several on one happens is drawn from each kernel's own dice.
                if len(channel) or channel is other:
                    return "no select"
                got = await aselect(channel, default=True)
                return None if got is None else [got.index, got.value, got.ok]
            case 6:
                got = await aselect(channel.sending(task))
                return [got.index, got.ok]
            case 7:
                async with self.mutex:
                    await asyncio.sleep(0)
                return "locked"
            case 8:
                async with self.rw.read():
                    await asyncio.sleep(0)
                return "read"
            case 9:
                async with self.rw.write():
                    await asyncio.sleep(0)
                return "written"
            case 10:
                n = rng.randrange(1, 4)
                await self.semaphore.aacquire(n)
                await asyncio.sleep(0)
                self.semaphore.release(n)
                return n
            case 11:
                async with self.condition:
                    await self.condition.wait_async()
                return "notified"
            case 12:
                self.condition.notify(rng.randrange(3))
                return len(channel), channel.closed
            case 13:
                async with cancel_scope() as scope:
                    if rng.random() < 0.5:
                        scope.cancel("drawn")
                    await channel.arecv()
                return scope.error is None
            case 14:
                return await self.group(rng, channel, task)
            case _:
                statistics = channel.statistics()
                return [statistics.waiting_senders, statistics.waiting_receivers, repr(self.mutex.locked)]

    async def group(self, rng: random.Random, channel: Channel[Any], task: int) -> Any:
        async def fails() -> None:
            await asyncio.sleep(0)
            raise ValueError(task)

        async with Group(limit=rng.choice([None, 1])) as group:
            group.go(channel.asend, task)
            tried = group.try_go(fails)
            if rng.random() < 0.3:
                group.context.cancel()
        return tried is None

    async def task(self, number: int) -> None:
        rng = random.Random(f"{self.rng.random()}/{number}")
        for _ in range(rng.randrange(1, 5)):
            try:
                answer = await self.operation(rng, number)
            except (WouldBlock, ChannelClosed, ValueError, ExceptionGroup) as error:
                answer = type(error).__name__
            except (Cancelled, asyncio.CancelledError) as error:
                self.log.append([number, type(error).__name__])
                raise
            self.log.append([number, answer])

    async def run(self) -> None:
        tasks: list[asyncio.Task[None]] = []
        with self.context.attach():
            for number in range(self.rng.randrange(3, 10)):
                tasks.append(asyncio.create_task(self.task(number)))
                for _ in range(self.rng.randrange(3)):
                    await asyncio.sleep(0)
                if self.rng.random() < 0.2:
                    self.rng.choice(tasks).cancel()
                if self.rng.random() < 0.05:
                    self.rng.choice(self.channels).close()
        for _ in range(20):
            await asyncio.sleep(0)
        self.log.append([len(channel) for channel in self.channels])
        self.context.cancel("the end")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        self.log.append([type(outcome).__name__ for outcome in outcomes])
        self.log.append([str(channel.statistics()) for channel in self.channels])


def main() -> None:
    seed, count = sys.argv[1:]
    print(json.dumps({"compiled": penstock.COMPILED}))
    for number in range(int(count)):
        world = World(f"{seed}/{number}")
        with virtual_time():
            asyncio.run(world.run())
        print(json.dumps(world.log))


main()
