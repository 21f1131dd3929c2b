"""Makes threads meet in every part of the kernel, for ThreadSanitizer to watch. Run by scripts/tsan/run."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import random
import sys
import threading
from itertools import chain
from typing import TYPE_CHECKING

import penstock
from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Condition,
    Context,
    Group,
    Mutex,
    Once,
    OutOfCapacity,
    PressureGauge,
    RWMutex,
    Semaphore,
    ShardedMap,
    WaitGroup,
    after,
    apmap,
    aselect,
    current,
    move_on_after,
    pmap,
    select,
    sleep,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 400


def in_threads(*functions: Callable[[], object]) -> None:
    """Run each in a thread of its own, and wait for all."""
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def passing_values(capacity: int) -> None:
    """Three senders, three receivers, one of them in an event loop."""
    channel = Channel[int](capacity)
    sending = WaitGroup()
    sending.add(3)
    received: list[list[int]] = [[], [], []]

    def send() -> None:
        for number in range(ROUNDS):
            channel.send(number)
        sending.done()

    async def receive_in_loop() -> None:
        async for number in channel:
            received[2].append(number)

    in_threads(
        send,
        send,
        send,
        lambda: received[0].extend(channel),
        lambda: received[1].extend(channel.receiver),
        lambda: asyncio.run(receive_in_loop()),
        lambda: (sending.wait(), channel.close()),
    )
    assert sorted(chain.from_iterable(received)) == sorted(3 * list(range(ROUNDS)))


def timeouts() -> None:
    """Receivers that give up in the instant in which a value comes; nothing is lost."""
    channel = Channel[int]()
    sent: list[int] = []
    received: list[int] = []

    def send() -> None:
        for number in range(ROUNDS):
            with contextlib.suppress(TimeoutError):
                channel.send(number, timeout=random.random() * 1e-4)
                sent.append(number)
        channel.close()

    def receive() -> None:
        while True:
            try:
                received.append(channel.recv(timeout=random.random() * 1e-4))
            except TimeoutError:
                continue
            except ChannelClosed:
                return

    in_threads(send, receive, receive)
    assert sorted(received) == sent


def selecting() -> None:
    """Selects that meet each other, sending and receiving, in threads and in a loop."""
    left, right, stop = Channel[int](), Channel[int](1), Channel[None]()
    done = WaitGroup()
    done.add(3)

    def turn() -> None:
        for number in range(ROUNDS):
            select(left, right, left.sending(number), right.sending(number), stop)
        done.done()

    async def turn_in_loop() -> None:
        for number in range(ROUNDS):
            await aselect(left, right.sending(number), right, left.sending(number), stop)
        done.done()

    def stop_the_last() -> None:
        with contextlib.suppress(TimeoutError):
            done.wait(timeout=0.5)
        stop.close()

    in_threads(turn, turn, lambda: asyncio.run(turn_in_loop()), stop_the_last)


def cancelling() -> None:
    """Contexts that end while tasks park under them."""
    for _ in range(ROUNDS // 10):
        cancel_once()


def cancel_once() -> None:
    """One tree, cancelled from above, by its deadline, and by closing what its tasks wait for."""
    silent = Channel[None]()
    parent = current().with_cancel()
    child = parent.with_timeout(random.random() * 1e-3)
    stop = parent.after_func(silent.close)

    def wait(context: Context) -> None:
        with context.attach(), contextlib.suppress(Cancelled, ChannelClosed):
            silent.recv()

    in_threads(lambda: wait(parent), lambda: wait(child), lambda: wait(child), parent.cancel, stop)


def groups() -> None:
    """Tasks in threads and loops, started, cancelled and waited for."""

    async def send(channel: Channel[int], number: int) -> None:
        await channel.asend(number)

    async def together(channel: Channel[int]) -> None:
        async with Group(limit=3) as group:
            for number in range(20):
                await group.ago(send, channel, number)
                await group.ago(channel.recv)

    for _ in range(ROUNDS // 40):
        channel = Channel[int](2)
        with Group() as group:
            group.go(asyncio.run, together(channel))
            group.go(asyncio.run, together(channel))
        with contextlib.suppress(ExceptionGroup), Group() as group:
            group.go(channel.recv)
            group.go(int, "no number")


def locking() -> None:
    """Every lock, contended, with a counter that only the lock guards."""
    mutex, shared, places, once = Mutex(), RWMutex(), Semaphore(2), Once()
    changed = Condition(mutex)
    counter = 0

    def count() -> None:
        nonlocal counter
        for turn in range(ROUNDS):
            with mutex:
                counter += 1
                changed.notify()
            with shared.read() if turn % 4 else shared.write():
                pass
            with places, contextlib.suppress(TimeoutError):
                places.acquire(timeout=0)
                places.release()
            once.do(lambda: None)

    async def count_in_loop() -> None:
        nonlocal counter
        for _ in range(ROUNDS):
            async with mutex:
                counter += 1
            async with shared.write(), places:
                pass

    def watch() -> None:
        while True:
            with mutex:
                if counter == 3 * ROUNDS:
                    return
                with contextlib.suppress(TimeoutError):
                    changed.wait(timeout=0.01)

    in_threads(count, count, lambda: asyncio.run(count_in_loop()), watch)


def deadlines() -> None:
    """Many timers, most of them stopped before they fire."""

    def work() -> None:
        for _ in range(ROUNDS // 4):
            with move_on_after(random.random() * 1e-3):
                select(after(random.random() * 1e-3), Channel[None]())

    in_threads(work, work, work)


def mapping() -> None:
    """Bounded maps, in order and not, of either colour, read to the end and left early."""

    def number(value: int) -> int:
        if value % 50 == 0:
            sleep(1e-4)
        return value

    async def anumber(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def read() -> None:
        async with apmap(anumber, range(ROUNDS), limit=3) as results:
            async for value in results:
                if value == ROUNDS // 2:
                    break
        assert [value async for value in apmap(number, range(ROUNDS), limit=3)] == list(range(ROUNDS))

    def leave() -> None:
        for turn in range(ROUNDS // 20):
            with pmap(number, range(10**9), limit=3, ordered=turn % 2 == 0) as results:
                for _ in range(turn * 5):
                    next(results)

    in_threads(lambda: asyncio.run(read()), leave, leave)


def sharing() -> None:
    """A map and a gauge."""
    table: ShardedMap[int, int] = ShardedMap(4)
    gauge = PressureGauge(2, queue=2, max_wait=0.01)

    def more(value: int) -> int:
        return value + 1

    def work() -> None:
        for turn in range(ROUNDS):
            table.update_with(turn % 8, more, default=0)
            table[turn] = table.get(turn % 8, 0)
            table.pop(turn, None)
            with contextlib.suppress(OutOfCapacity):
                gauge.do(more, turn)

    def watch() -> None:
        for _ in range(ROUNDS // 10):
            table.snapshot()
            table.statistics()
            gauge.statistics()

    in_threads(work, work, work, watch)


def main() -> None:
    """Run every part, with the garbage collector at work."""
    ctypes.PyDLL(sys.argv[1]).install()
    assert penstock.COMPILED
    assert not sys._is_gil_enabled()  # noqa: SLF001  its only name
    gc.set_threshold(50)
    for capacity in (0, 1, 16):
        passing_values(capacity)
    for part in (timeouts, selecting, cancelling, groups, locking, deadlines, mapping, sharing):
        part()
        print(part.__name__, flush=True)


if __name__ == "__main__":
    main()
