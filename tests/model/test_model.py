"""Channels and select against the naive model, step by step, with tasks that park and are cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from naive import CANCELLED, CLOSED, NaiveChannel, Waiter

from penstock import Channel, ChannelClosed, WouldBlock, aselect, select

WIDTH = 3
channels = st.integers(0, WIDTH - 1)


class Channels(RuleBasedStateMachine):
    """Three channels, real and naive, and the asyncio tasks parked on them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.values = iter(range(1_000_000))
        self.parked: list[tuple[asyncio.Task[Any], Waiter]] = []

    @initialize(capacities=st.lists(st.integers(0, 3), min_size=WIDTH, max_size=WIDTH))
    def make(self, capacities: list[int]) -> None:
        self.real: list[Channel[int]] = [Channel(capacity) for capacity in capacities]
        self.naive = [NaiveChannel(capacity) for capacity in capacities]

    # Driving the loop

    def settle(self) -> None:
        """Let the tasks run until nothing moves; what has ended is what the model says, and ended so."""

        async def idle() -> None:
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(idle())
        for task, waiter in list(self.parked):
            assert task.done() == (waiter.outcome is not None), (task, waiter)
            if task.done():
                self.parked.remove((task, waiter))
                assert self.outcome(task) == waiter.outcome

    @staticmethod
    def outcome(task: asyncio.Task[Any]) -> Any:
        if task.cancelled():
            return CANCELLED
        if isinstance(task.exception(), ChannelClosed):
            return CLOSED
        return task.result()

    def start(self, coroutine: Any, cases: dict[int, tuple[str, NaiveChannel, Any]]) -> None:
        """Start a task. If a case is ready one happens at once, and the model follows; otherwise it parks."""
        ready = {
            index
            for index, (kind, channel, _) in cases.items()
            if (channel.can_send() if kind == "send" else channel.can_receive())
        }
        waiter = Waiter(cases)
        task = self.loop.create_task(coroutine)
        if not ready:
            waiter.park()
            self.parked.append((task, waiter))
            self.settle()
            return
        self.loop.run_until_complete(asyncio.wait([task], timeout=5))
        assert task.done(), f"parked although {ready} were ready"
        outcome = self.outcome(task)
        chosen = outcome[0] if outcome is not CLOSED else None
        if chosen is None:
            assert any(cases[index][0] == "send" and cases[index][1].closed for index in ready)
        else:
            assert chosen in ready
            kind, channel, value = cases[chosen]
            if kind == "send":
                assert channel.send(value) == "sent"
                assert outcome == (chosen, None, True)
            else:
                assert outcome == (chosen, *channel.receive())
        self.settle()

    # What tasks do

    @rule(at=channels)
    def send(self, at: int) -> None:
        value = next(self.values)

        async def work() -> Any:
            await self.real[at].asend(value)
            return 0, None, True

        self.start(work(), {0: ("send", self.naive[at], value)})

    @rule(at=channels)
    def receive(self, at: int) -> None:
        async def work() -> Any:
            return 0, *(await self.real[at].arecv_ok())

        self.start(work(), {0: ("receive", self.naive[at], None)})

    @rule(kinds=st.lists(st.sampled_from(["send", "receive", "none"]), min_size=WIDTH, max_size=WIDTH))
    def select(self, kinds: list[str]) -> None:
        value = next(self.values)
        real: list[Any] = []
        naive = {}
        for index, kind in enumerate(kinds):
            channel = self.real[index]
            real.append({"send": channel.sending(value), "receive": channel, "none": None}[kind])
            if kind != "none":
                naive[index] = (kind, self.naive[index], value if kind == "send" else None)

        async def work() -> Any:
            got = await aselect(*real)
            return got.index, got.value, got.ok

        self.start(work(), naive)

    # What the main thread does, outside the loop

    @rule(at=channels)
    def send_nowait(self, at: int) -> None:
        value = next(self.values)
        naive = self.naive[at]
        try:
            self.real[at].send_nowait(value)
        except WouldBlock:
            assert not naive.can_send()
        except ChannelClosed:
            assert naive.closed
        else:
            assert naive.can_send()
            assert naive.send(value) == "sent"
        self.settle()

    @rule(at=channels)
    def receive_nowait(self, at: int) -> None:
        naive = self.naive[at]
        try:
            value = self.real[at].recv_nowait()
        except WouldBlock:
            assert not naive.can_receive()
        except ChannelClosed:
            assert naive.closed
            assert naive.receive() == (None, False)
        else:
            assert naive.receive() == (value, True)
        self.settle()

    @rule(at=channels)
    def select_with_default(self, at: int) -> None:
        got = select(self.real[at], default=True)
        naive = self.naive[at]
        if got is None:
            assert not naive.can_receive()
        else:
            assert (got.value, got.ok) == naive.receive()
        self.settle()

    @rule(at=channels)
    def close(self, at: int) -> None:
        assert self.real[at].close() == self.naive[at].close()
        self.settle()

    # Cancellation

    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        if self.parked:
            task, waiter = self.parked[which % len(self.parked)]
            task.cancel()
            waiter.complete(CANCELLED)
            self.settle()

    @rule(at=channels)
    def hand_over_and_cancel(self, at: int) -> None:
        """The receiver is cancelled after the hand-over, and before it runs: the value goes back to the front (C4)."""
        naive = self.naive[at]
        if naive.closed or not naive.receivers:
            return
        value = next(self.values)
        first = naive.receivers[0][0]
        self.real[at].send_nowait(value)
        next(task for task, waiter in self.parked if waiter is first).cancel()
        first.complete(CANCELLED)
        naive.give_back(value)
        self.settle()

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "real"):
            return
        for real, naive in zip(self.real, self.naive, strict=True):
            statistics = real.statistics()
            assert len(real) == len(naive)
            assert real.closed == naive.closed
            assert statistics.waiting_senders == len(naive.senders)
            assert statistics.waiting_receivers == len(naive.receivers)

    def teardown(self) -> None:
        async def leave() -> None:
            for task, _ in self.parked:
                task.cancel()
            await asyncio.gather(*(task for task, _ in self.parked), return_exceptions=True)

        self.loop.run_until_complete(leave())
        self.loop.close()


TestChannels = Channels.TestCase
TestChannels.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False
)
