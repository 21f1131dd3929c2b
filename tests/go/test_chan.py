"""What Go's tests in `test/chan` and `runtime/chan_test.go` probe, in our words and in both colours.

A nil channel is `None`, which stands in a select only. A channel that overtakes nobody is what C7 adds to Go.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from colours import COLOURS

from penstock import Channel, ChannelClosed, Group, WouldBlock, aselect, select

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)

BLOCKED = 0.02


async def blocks(operation: Callable[[], Awaitable[Any]]) -> bool:
    """Does the operation, which takes a timeout, wait?"""
    try:
        await operation()
    except TimeoutError:
        return True
    return False


# test/chan/select3.go: what blocks and what raises, over the whole matrix


def full() -> Channel[int]:
    channel: Channel[int] = Channel(1)
    channel.send_nowait(1)
    return channel


def closed(capacity: int = 0) -> Channel[int]:
    channel: Channel[int] = Channel(capacity)
    channel.close()
    return channel


def closed_with_a_value() -> Channel[int]:
    channel = full()
    channel.close()
    return channel


BLOCK, GO, RAISE = "blocks", "goes on", "raises"

STATES: dict[str, tuple[Callable[[], Channel[int]], str, str]] = {
    # state: how it is made, what a send does, what a receive does
    "rendezvous": (Channel, BLOCK, BLOCK),
    "empty": (lambda: Channel(1), GO, BLOCK),
    "full": (full, BLOCK, GO),
    "closed": (closed, RAISE, GO),
    "closed, buffered": (lambda: closed(1), RAISE, GO),
    "closed with a value": (closed_with_a_value, RAISE, GO),
}


@both
@pytest.mark.parametrize("state", STATES)
def test_select3_plain_operations(ops: Any, state: str) -> None:
    """Sends and receives outside a select (select3.go; K1, K2)."""
    make, sends, receives = STATES[state]

    async def body(ops: Any) -> None:
        async def outcome(operation: Callable[[], Awaitable[Any]]) -> str:
            try:
                return BLOCK if await blocks(operation) else GO
            except ChannelClosed:
                return RAISE

        channel = make()
        assert await outcome(lambda: ops.send(channel, 7, timeout=BLOCKED)) == sends
        channel = make()
        assert await outcome(lambda: ops.recv_ok(channel, timeout=BLOCKED)) == receives

    ops.run(body)


@both
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("company", ["alone", "with None", "with a silent channel", "twice"])
@pytest.mark.parametrize("default", [False, True])
def test_select3_in_select(ops: Any, state: str, company: str, default: bool) -> None:
    """The same as cases of a select, alone and in company, with and without default (select3.go)."""
    make, sends, receives = STATES[state]

    async def body(ops: Any) -> None:
        async def outcome(case: Callable[[Channel[int]], Any]) -> str:
            channel = make()
            cases = [case(channel)]
            if company == "with None":
                cases = [None, *cases, None]
            elif company == "with a silent channel":
                cases = [Channel(), *cases]
            elif company == "twice":
                cases.append(case(channel))
            options: dict[str, Any] = {"default": True} if default else {"timeout": BLOCKED}
            try:
                got = await ops.select(*cases, **options)
            except TimeoutError:
                return BLOCK
            except ChannelClosed:
                return RAISE
            return BLOCK if got is None else GO

        assert await outcome(lambda channel: channel.sending(7)) == sends
        assert await outcome(lambda channel: channel) == receives

    ops.run(body)


@both
def test_select3_never_ready(ops: Any) -> None:
    """No cases, and nil channels only, block for ever; with a default they answer None (select3.go; S5)."""

    async def body(ops: Any) -> None:
        for cases in ([], [None], [None, None]):
            assert await blocks(lambda cases=cases: ops.select(*cases, timeout=BLOCKED))
            assert await ops.select(*cases, default=True) is None

    ops.run(body)


@both
def test_select3_does_not_meet_itself(ops: Any) -> None:
    """A select that sends to and receives from one rendezvous channel blocks (select3.go; S4)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()
        assert await blocks(lambda: ops.select(channel.sending(1), channel, timeout=BLOCKED))
        assert channel.statistics().waiting_senders == channel.statistics().waiting_receivers == 0

    ops.run(body)


@both
def test_select3_a_closed_channel_receives_for_ever(ops: Any) -> None:
    """Ten times over, both ways (select3.go; S3)."""

    async def body(ops: Any) -> None:
        channel = closed()
        for _ in range(10):
            assert await ops.recv_ok(channel) == (None, False)
            got = await ops.select(channel)
            assert (got.value, got.ok) == (None, False)

    ops.run(body)


# The other programs of test/chan


@both
def test_select(ops: Any) -> None:
    """Two channels opened and closed in turn; what a select takes is what was offered (select.go)."""

    async def body(ops: Any) -> None:
        first: Channel[int] = Channel(1)
        second: Channel[int] = Channel(1)
        offered = 0
        taken = []
        for turn in range(20):
            case = [first.sending(turn), None] if turn % 2 else [None, second.sending(turn)]
            got = await ops.select(*case)
            assert got.index == (0 if turn % 2 else 1)
            offered += turn
            got = await ops.select(first, second)
            assert got.channel is (first if turn % 2 else second)
            taken.append(got.value)
        assert sum(taken) == offered

    ops.run(body)


@both
def test_select2_leaves_nothing(ops: Any) -> None:
    """Many selects, of which one case never happens, leave nothing on it (select2.go; S6)."""

    async def body(ops: Any) -> None:
        busy: Channel[int] = Channel()
        silent: Channel[int] = Channel()

        async def sender(ops: Any) -> None:
            for number in range(2000):
                await ops.select(busy.sending(number), silent)

        async def receiver(ops: Any) -> None:
            for number in range(2000):
                got = await ops.select(busy, silent)
                assert got.value == number

        sending = ops.spawn(sender, ops)
        await receiver(ops)
        await sending.outcome()
        for channel in (busy, silent):
            statistics = channel.statistics()
            assert statistics.waiting_senders == statistics.waiting_receivers == 0

    ops.run(body)


@both
def test_select6_the_queue_behind_a_select(ops: Any) -> None:
    """A select that was last in a channel's queue and lost there does not cut off those who come after (select6.go)."""

    async def body(ops: Any) -> None:
        first: Channel[bool] = Channel()
        second: Channel[bool] = Channel()
        third: Channel[bool] = Channel()

        async def selects(ops: Any) -> None:
            got = await ops.select(first, second)
            assert got.channel is second
            await ops.send(third, True)
            await ops.recv(first)

        ahead = ops.spawn(ops.recv, first)
        while first.statistics().waiting_receivers < 1:
            await ops.pause()
        behind = ops.spawn(selects, ops)
        while first.statistics().waiting_receivers < 2:
            await ops.pause()
        await ops.send(second, True)
        await ops.recv(third)
        await ops.send(first, True)
        await ops.send(first, True)
        await ahead.outcome()
        await behind.outcome()

    ops.run(body)


@both
@pytest.mark.parametrize("receive", ["recv", "recv_ok", "select", "select of two"])
@pytest.mark.parametrize("send", ["send", "select", "select of two"])
def test_select7_every_way_of_sending_meets_every_way_of_receiving(ops: Any, send: str, receive: str) -> None:
    """(select7.go)"""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()

        async def sender(ops: Any) -> None:
            if send == "send":
                await ops.send(channel, 1)
            elif send == "select":
                await ops.select(channel.sending(1))
            else:
                await ops.select(channel.sending(1), Channel())

        async def receiver(ops: Any) -> Any:
            if receive == "recv":
                return await ops.recv(channel)
            if receive == "recv_ok":
                return (await ops.recv_ok(channel))[0]
            if receive == "select":
                return (await ops.select(channel)).value
            return (await ops.select(Channel(), channel)).value

        for receiver_first in (True, False):
            one, other = (receiver, sender) if receiver_first else (sender, receiver)
            spawned = ops.spawn(one, ops)
            await ops.pause()
            result = await other(ops)
            outcome = await spawned.outcome()
            assert (outcome if receiver_first else result) == 1

    ops.run(body)


@both
def test_doubleselect(ops: Any) -> None:
    """A sender with four cases to send one value: never do two of them happen (doubleselect.go; S2)."""

    async def body(ops: Any) -> None:
        channels: list[Channel[int]] = [Channel() for _ in range(4)]
        merged: Channel[int] = Channel()
        rounds = 1500

        async def sender(ops: Any) -> None:
            for number in range(rounds):
                await ops.select(*(channel.sending(number) for channel in channels))
            for channel in channels:
                channel.close()

        async def forward(ops: Any, channel: Channel[int]) -> None:
            for value in await ops.collect(channel) if ops.name == "threads" else [v async for v in channel]:
                await ops.send(merged, value)

        spawned = [ops.spawn(sender, ops), *(ops.spawn(forward, ops, channel) for channel in channels)]
        received = [await ops.recv(merged) for _ in range(rounds)]
        for each in spawned:
            await each.outcome()
        assert sorted(received) == list(range(rounds))

    ops.run(body)


@both
@pytest.mark.parametrize("capacity", [0, 10])
def test_fifo(ops: Any, capacity: int) -> None:
    """Buffered values, and a chain of senders to a rendezvous, come in order (fifo.go; K1)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(capacity)

        async def sender(ops: Any) -> None:
            for number in range(100):
                await ops.send(channel, number)
            channel.close()

        sending = ops.spawn(sender, ops)
        assert await ops.collect(channel) == list(range(100))
        await sending.outcome()

    ops.run(body)


@both
def test_nonblock(ops: Any) -> None:
    """What does not block answers at once, and meets those who are parked (nonblock.go; C8)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()
        for _ in range(2):
            with pytest.raises(WouldBlock):
                channel.recv_nowait()
            with pytest.raises(WouldBlock):
                channel.send_nowait(1)
            with pytest.raises(TimeoutError):
                await ops.recv(channel, timeout=0)
            with pytest.raises(TimeoutError):
                await ops.send(channel, 1, timeout=0)
            assert await ops.select(channel, default=True) is None
            assert await ops.select(channel.sending(1), default=True) is None
        receiving = ops.spawn(ops.recv, channel)
        while not channel.statistics().waiting_receivers:
            await ops.pause()
        channel.send_nowait(2)
        assert await receiving.outcome() == 2
        sending = ops.spawn(ops.send, channel, 3)
        while not channel.statistics().waiting_senders:
            await ops.pause()
        assert channel.recv_nowait() == 3
        await sending.outcome()
        buffered: Channel[int] = Channel(1)
        buffered.send_nowait(4)
        with pytest.raises(WouldBlock):
            buffered.send_nowait(5)
        assert buffered.recv_nowait() == 4
        with pytest.raises(WouldBlock):
            buffered.recv_nowait()

    ops.run(body)


@both
def test_goroutines(ops: Any) -> None:
    """A value through a chain of many tasks (goroutines.go)."""

    async def body(ops: Any) -> None:
        length = 100 if ops.name == "threads" else 2000

        async def link(ops: Any, left: Channel[int], right: Channel[int]) -> None:
            await ops.send(left, await ops.recv(right) + 1)

        leftmost: Channel[int] = Channel()
        left = leftmost
        spawned = []
        for _ in range(length):
            right: Channel[int] = Channel()
            spawned.append(ops.spawn(link, ops, left, right))
            left = right
        await ops.send(left, 0)
        assert await ops.recv(leftmost) == length
        for each in spawned:
            await each.outcome()

    ops.run(body)


def primes(count: int) -> list[int]:
    found: list[int] = []
    for candidate in itertools.count(2):
        if all(candidate % prime for prime in found):
            found.append(candidate)
            if len(found) == count:
                return found
    raise AssertionError


def test_sieve1_in_threads() -> None:
    """The prime sieve: a chain of filters, one task each, that grows (sieve1.go)."""

    def generate(out: Channel[int]) -> None:
        for number in itertools.count(2):
            out.send(number)

    def keep(source: Channel[int], out: Channel[int], prime: int) -> None:
        for number in source:
            if number % prime:
                out.send(number)

    found = []
    with Group() as group:
        source: Channel[int] = Channel()
        group.go(generate, source)
        for _ in range(25):
            prime = source.recv()
            found.append(prime)
            out: Channel[int] = Channel()
            group.go(keep, source, out, prime)
            source = out
        group.context.cancel()
    assert found == primes(25)


def test_sieve1_in_asyncio() -> None:
    async def generate(out: Channel[int]) -> None:
        for number in itertools.count(2):
            await out.asend(number)

    async def keep(source: Channel[int], out: Channel[int], prime: int) -> None:
        async for number in source:
            if number % prime:
                await out.asend(number)

    async def main() -> None:
        found = []
        async with Group() as group:
            source: Channel[int] = Channel()
            group.go(generate, source)
            for _ in range(50):
                prime = await source.arecv()
                found.append(prime)
                out: Channel[int] = Channel()
                group.go(keep, source, out, prime)
                source = out
            group.context.cancel()
        assert found == primes(50)

    asyncio.run(main())


def test_sieve2_channels_of_channels() -> None:
    """The sieve with multiples: each prime sends its multiples, merged through a heap of channels (sieve2.go; K4)."""
    import heapq

    def multiples(prime: int, out: Channel[int]) -> None:
        for factor in itertools.count(prime):
            out.send(prime * factor)

    def sieve(wanted: int, streams: Channel[tuple[int, Channel[int]]], out: Channel[int]) -> None:
        composites: list[tuple[int, int, Channel[int]]] = []
        candidate = 2
        while wanted:
            while composites and composites[0][0] < candidate:
                _, prime, channel = composites[0]
                heapq.heapreplace(composites, (channel.recv(), prime, channel))
            if not composites or composites[0][0] > candidate:
                out.send(candidate)
                wanted -= 1
                channel = Channel(4)
                streams.send((candidate, channel))
                heapq.heappush(composites, (channel.recv(), candidate, channel))
            candidate += 1
        out.close()

    with Group() as group:
        streams: Channel[tuple[int, Channel[int]]] = Channel()
        out: Channel[int] = Channel(2)

        def start_multiples() -> None:
            for prime, channel in streams:
                group.go(multiples, prime, channel)

        group.go(start_multiples)
        group.go(sieve, 20, streams, out)
        assert list(out) == primes(20)
        group.context.cancel()


def test_perm_directions() -> None:
    """What a view with one direction refuses (perm.go; the types are in tests/typing)."""
    channel: Channel[int] = Channel(1)
    for name in ("recv", "recv_ok", "recv_nowait", "arecv", "arecv_ok", "__iter__", "__aiter__"):
        with pytest.raises((AttributeError, TypeError)):
            getattr(channel.sender, name)()
    for name in ("send", "send_nowait", "asend", "sending", "close"):
        with pytest.raises((AttributeError, TypeError)):
            getattr(channel.receiver, name)(1)
    with pytest.raises(TypeError):
        select(channel.sender, default=True)  # type: ignore[call-overload]


def test_chancap() -> None:
    """Length and capacity; a capacity out of range is refused (chancap.go)."""
    channel: Channel[int] = Channel(10)
    assert (len(channel), channel.capacity) == (0, 10)
    for number in range(3):
        channel.send(number)
    assert (len(channel), channel.capacity) == (3, 10)
    assert (len(Channel()), Channel().capacity) == (0, 0)
    for wrong in (-1, -(1 << 70)):
        with pytest.raises(ValueError, match="capacity must be 0"):
            Channel(wrong)
    for wrong_type in ("1", 1.0, None):
        with pytest.raises(TypeError):
            Channel(wrong_type)  # type: ignore[arg-type]


@both
@pytest.mark.parametrize("capacity", [0, 1, 2])
@pytest.mark.parametrize("by", ["operation", "select"])
def test_closedchan(ops: Any, capacity: int, by: str) -> None:
    """After the close what was accepted is received, then (None, False) for ever; sends raise (closedchan.go; K2)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(capacity)
        for number in range(capacity):
            await ops.send(channel, number)
        assert channel.close() is True
        assert channel.close() is False

        async def receive() -> tuple[Any, bool]:
            if by == "operation":
                return await ops.recv_ok(channel)  # type: ignore[no-any-return]
            got = await ops.select(channel, default=True)
            return got.value, got.ok

        for number in range(capacity):
            assert await receive() == (number, True)
        for _ in range(3):
            assert await receive() == (None, False)
            with pytest.raises(ChannelClosed):
                await ops.recv(channel)
            with pytest.raises(ChannelClosed):
                channel.recv_nowait()
            with pytest.raises(ChannelClosed):
                await (ops.send(channel, 1) if by == "operation" else ops.select(channel.sending(1)))
            with pytest.raises(ChannelClosed):
                channel.send_nowait(1)

    ops.run(body)


# runtime/chan_test.go


@both
@pytest.mark.parametrize("capacity", [0, 1, 3, 10])
def test_chan(ops: Any, capacity: int) -> None:
    """Close wakes those who are parked; many senders to many receivers lose nothing (TestChan)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(capacity)
        receivers = [ops.spawn(ops.recv_ok, channel) for _ in range(3)]
        await ops.pause()
        channel.close()
        assert [await each.outcome() for each in receivers] == [(None, False)] * 3

        shared: Channel[int] = Channel(capacity)
        per_sender, tasks = 250, 4

        async def sender(ops: Any) -> None:
            for number in range(per_sender):
                await ops.send(shared, number)

        async def receiver(ops: Any) -> Counter[int]:
            return Counter([await ops.recv(shared) for _ in range(per_sender)])

        senders = [ops.spawn(sender, ops) for _ in range(tasks)]
        counters = [ops.spawn(receiver, ops) for _ in range(tasks)]
        total: Counter[int] = Counter()
        for each in counters:
            total += await each.outcome()
        for each in senders:
            await each.outcome()
        assert total == dict.fromkeys(range(per_sender), tasks)

    ops.run(body)


def test_nonblock_recv_race() -> None:
    """A value that is there throughout a close is never missed (TestNonblockRecvRace; S2)."""
    with Group() as group:
        for _ in range(1000):
            channel: Channel[int] = Channel(1)
            channel.send(1)
            task = group.go(lambda channel=channel: select(channel, default=True))
            channel.close()
            channel.recv_ok()
            assert task.result() is not None


@pytest.mark.parametrize("close", [False, True])
def test_nonblock_select_race(close: bool) -> None:
    """One of two channels is ready at every moment: select sees it (TestNonblockSelectRace and Race2; S2)."""
    starting: Channel[tuple[Channel[int], Channel[int]]] = Channel()
    answers: Channel[bool] = Channel(1)

    def looks() -> None:
        for first, second in starting:
            answers.send(select(first, second, default=True) is not None)

    with Group() as group:
        group.go(looks)
        for _ in range(3000):
            first: Channel[int] = Channel(1)
            second: Channel[int] = Channel(1)
            first.send(1)
            starting.send((first, second))
            second.close() if close else second.send(1)
            select(first, default=True)
            assert answers.recv(), "no channel was ready"
        starting.close()


@both
@pytest.mark.parametrize("capacity", [0, 10])
def test_self_select(ops: Any, capacity: int) -> None:
    """Two tasks that send to and receive from one channel in one select: no hang, and nobody meets himself
    (TestSelfSelect; S4)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(capacity)

        async def player(ops: Any, me: int) -> None:
            for turn in range(500):
                sending = channel.sending(me)
                cases = (sending, channel) if me == 0 or turn % 2 else (channel, sending)
                got = await ops.select(*cases)
                if got.channel is channel and capacity == 0:
                    assert got.value != me, "received from itself"

        players = [ops.spawn(player, ops, me) for me in range(2)]
        for each in players:
            await each.outcome()

    ops.run(body)


@both
def test_select_stress(ops: Any) -> None:
    """Four channels, of two capacities: plain senders and receivers, and selects over all four that switch off the
    cases they are through with (TestSelectStress)."""

    async def body(ops: Any) -> None:
        channels: list[Channel[int]] = [Channel(capacity) for capacity in (0, 0, 2, 3)]
        rounds = 200

        async def plain_sender(ops: Any, channel: Channel[int]) -> None:
            for number in range(rounds):
                await ops.send(channel, number)

        async def plain_receiver(ops: Any, channel: Channel[int]) -> None:
            for _ in range(rounds):
                await ops.recv(channel)

        async def selecting(ops: Any, send: bool) -> None:
            left = [rounds] * 4
            while any(left):
                cases: list[Any] = [
                    None if not more else channel.sending(more) if send else channel
                    for channel, more in zip(channels, left, strict=True)
                ]
                got = await ops.select(*cases)
                left[got.index] -= 1

        spawned = [ops.spawn(plain_sender, ops, channel) for channel in channels]
        spawned += [ops.spawn(plain_receiver, ops, channel) for channel in channels]
        spawned += [ops.spawn(selecting, ops, send) for send in (True, False)]
        for each in spawned:
            await each.outcome()
        assert [len(channel) for channel in channels] == [0] * 4

    ops.run(body)


@both
def test_select_fairness(ops: Any) -> None:
    """Two channels that are always ready are served about equally often, others present or not (TestSelectFairness)."""

    async def body(ops: Any) -> None:
        trials = 2000
        ready: list[Channel[int]] = [Channel(trials + 1) for _ in range(2)]
        for channel in ready:
            for number in range(trials + 1):
                channel.send_nowait(number)
        silent: list[Channel[int]] = [Channel(), Channel()]
        served = Counter()
        for _ in range(trials):
            served[(await ops.select(silent[0], ready[0], ready[1], silent[1])).index] += 1
        assert served.keys() == {1, 2}
        # Eight standard deviations: sqrt(2000)/2 is 22.
        assert abs(served[1] - trials / 2) < 180

    ops.run(body)


@both
def test_pseudo_random_send(ops: Any) -> None:
    """Two send cases of one channel happen about equally often (TestPseudoRandomSend)."""

    async def body(ops: Any) -> None:
        for capacity in (0, 1):
            channel: Channel[int] = Channel(capacity)

            async def receiver(ops: Any, channel: Channel[int] = channel) -> list[int]:
                return [await ops.recv(channel) for _ in range(400)]

            receiving = ops.spawn(receiver, ops)
            for _ in range(400):
                await ops.select(channel.sending(0), channel.sending(1))
            ones = sum(await receiving.outcome())
            assert 100 < ones < 300

    ops.run(body)


@both
def test_multi_consumer(ops: Any) -> None:
    """A pipeline of many workers; each result once (TestMultiConsumer)."""

    async def body(ops: Any) -> None:
        workers, items = 23, 500
        questions: Channel[int] = Channel(workers * 3)
        answers: Channel[int] = Channel(workers * 3)

        async def worker(ops: Any) -> None:
            while True:
                value, ok = await ops.recv_ok(questions)
                if not ok:
                    return
                if value % 7 == 0:
                    await ops.pause() if value < 20 else None
                await ops.send(answers, value)

        async def feeder(ops: Any) -> None:
            for number in range(items):
                await ops.send(questions, number)
            questions.close()
            for each in at_work:
                await each.outcome()
            answers.close()

        at_work = [ops.spawn(worker, ops) for _ in range(workers)]
        feeding = ops.spawn(feeder, ops)
        assert sorted(await ops.collect(answers)) == list(range(items))
        await feeding.outcome()

    ops.run(body)


@both
def test_select_duplicate_channel(ops: Any) -> None:
    """A channel twice in a parked select: when another case happens, both are gone (TestSelectDuplicateChannel)."""

    async def body(ops: Any) -> None:
        twice: Channel[int] = Channel()
        other: Channel[int] = Channel()

        async def selects(ops: Any) -> Any:
            return await ops.select(twice, twice, other)

        selecting = ops.spawn(selects, ops)
        while twice.statistics().waiting_receivers < 2:
            await ops.pause()
        waiting = ops.spawn(ops.recv, twice)
        while twice.statistics().waiting_receivers < 3:
            await ops.pause()
        await ops.send(other, 1)
        assert (await selecting.outcome()).index == 2
        await ops.send(twice, 2)
        assert await waiting.outcome() == 2

    ops.run(body)


@both
def test_select4_only_the_chosen_case_happens(ops: Any) -> None:
    """What the losing cases would have received or sent stays where it is (select4.go)."""

    async def body(ops: Any) -> None:
        ready: Channel[int] = Channel(1)
        silent: Channel[int] = Channel()
        crowded = full()
        ready.send_nowait(42)
        got = await ops.select(silent, ready, crowded.sending(43))
        assert (got.index, got.value, got.ok) == (1, 42, True)
        assert len(crowded) == 1
        assert len(ready) == 0
        assert silent.statistics().waiting_receivers == 0

    ops.run(body)


@both
@pytest.mark.parametrize("capacity", [0, 1])
def test_zerosize(ops: Any, capacity: int) -> None:
    """Values that say nothing are values: None and () are not the end (zerosize.go; K4)."""

    async def body(ops: Any) -> None:
        channel: Channel[Any] = Channel(capacity)
        for value in (None, (), False, 0):
            sending = ops.spawn(ops.send, channel, value)
            assert await ops.recv_ok(channel) == (value, True)
            await sending.outcome()
            sending = ops.spawn(ops.select, channel.sending(value))
            got = await ops.select(channel)
            assert (got.value, got.ok) == (value, True)
            await sending.outcome()

    ops.run(body)


@both
def test_chan_send_interface(ops: Any) -> None:
    """Any object is sent, by each way of sending, and is the same afterwards (TestChanSendInterface; K4)."""

    async def body(ops: Any) -> None:
        channel: Channel[Any] = Channel(1)
        thing = object()
        await ops.send(channel, thing)
        assert await ops.select(channel.sending(object()), default=True) is None
        assert await ops.recv(channel) is thing
        got = await ops.select(channel.sending(thing), channel.sending(thing))
        assert got.ok is True
        assert await ops.recv(channel) is thing

    ops.run(body)


@both
@pytest.mark.parametrize("selecting", [False, True], ids=["send", "select"])
def test_chan_send_barrier(ops: Any, selecting: bool) -> None:
    """A channel made for each answer, amid garbage that is collected all the time (TestChanSendBarrier,
    TestChanSendSelectBarrier)."""

    async def body(ops: Any) -> None:
        async def answer(ops: Any, channel: Channel[Any], number: int) -> None:
            value = [number]
            value.append(value)  # type: ignore[arg-type]  # garbage for the collector, later
            if selecting:
                await ops.select(channel.sending(value), Channel().sending(value))
            else:
                await ops.send(channel, value)

        async def asks(ops: Any) -> None:
            for number in range(30):
                channel: Channel[Any] = Channel()
                answering = ops.spawn(answer, ops, channel, number)
                assert (await ops.recv(channel))[0] == number
                await answering.outcome()

        thresholds = gc.get_threshold()
        gc.set_threshold(20)
        try:
            for each in [ops.spawn(asks, ops) for _ in range(8)]:
                await each.outcome()
        finally:
            gc.set_threshold(*thresholds)

    ops.run(body)


@both
def test_select_stack_adjust(ops: Any) -> None:
    """Parked selects, one with each channel twice, survive a collection; the close wakes them, and what they had in
    hand is untouched (TestSelectStackAdjust)."""

    async def body(ops: Any) -> None:
        silent: Channel[list[int]] = Channel()
        closing: Channel[list[int]] = Channel()

        async def selects(ops: Any, twice: bool) -> tuple[list[int], Any]:
            mine = [42]
            got = await ops.select(silent, silent if twice else None, closing, closing if twice else None)
            return mine, got

        parked = [ops.spawn(selects, ops, twice) for twice in (False, True)]
        while closing.statistics().waiting_receivers < 3:
            await ops.pause()
        gc.collect()
        closing.close()
        for each in parked:
            mine, got = await each.outcome()
            assert mine == [42]
            assert got.index in (2, 3)
            assert (got.value, got.ok) == (None, False)
        assert silent.statistics().waiting_receivers == 0

    ops.run(body)


@both
def test_collection_while_a_sender_is_parked(ops: Any) -> None:
    """Deep in its stack, or back from there (TestShrinkStackDuringBlockedSend, TestNoShrinkStackWhileParking)."""

    async def body(ops: Any) -> None:
        async def deep(depth: int, channel: Channel[int], value: int) -> None:
            if depth:
                await deep(depth - 1, channel, value)
            else:
                await ops.send(channel, value)

        async def sends(channel: Channel[int]) -> None:
            for number in range(10):
                await deep(number * 20 % 90, channel, number)

        for _ in range(10):
            channel: Channel[int] = Channel()
            sending = ops.spawn(sends, channel)
            for number in range(10):
                if number % 5 == 0:
                    gc.collect()
                assert await ops.recv(channel) == number
            await sending.outcome()

    ops.run(body)


def test_two_selects_of_different_colours_meet() -> None:
    """A thread and an asyncio task, each sending to and receiving from the other in one select (S7, C2)."""
    left: Channel[int] = Channel()
    right: Channel[int] = Channel()
    rounds = 500

    def thread() -> Counter[int]:
        return Counter(select(left.sending(1), right).index for _ in range(rounds))

    async def task() -> Counter[int]:
        return Counter([(await aselect(left, right.sending(1))).index for _ in range(rounds)])

    box: list[Counter[int]] = []
    other = threading.Thread(target=lambda: box.append(thread()))
    other.start()
    mine = asyncio.run(task())
    other.join(20)
    assert not other.is_alive(), "hung"
    assert mine == box[0]
