"""Channels, clause by clause, in both colours."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from colours import COLOURS, LIMIT

from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Context,
    Mutex,
    RecvChannel,
    RWMutex,
    Semaphore,
    SendChannel,
    WouldBlock,
    aselect,
    cancel_scope,
    fail_after,
    select,
)

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)


@both
def test_rendezvous_send_returns_once_received(ops: Any) -> None:
    """On a channel without capacity, send returns only once a receiver has the value (K1)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()
        log: list[str] = []

        async def sender() -> None:
            await ops.send(channel, 1)
            log.append("sent")

        spawned = ops.spawn(sender)
        await ops.pause()
        assert log == []
        assert await ops.recv(channel) == 1
        await spawned.outcome()
        assert log == ["sent"]

    ops.run(body)


@both
@pytest.mark.parametrize("capacity", [1, 3, 10, 100])
def test_buffered_is_fifo_and_parks_only_when_full(ops: Any, capacity: int) -> None:
    """A buffered channel takes `capacity` values without a receiver, one more waits, and order is kept (K1)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(capacity)
        for value in range(capacity):
            await ops.send(channel, value)
        assert len(channel) == capacity
        with pytest.raises(TimeoutError):
            await ops.send(channel, -1, 0.01)

        async def rest() -> None:
            for value in range(capacity, 3 * capacity):
                await ops.send(channel, value)
            channel.close()

        spawned = ops.spawn(rest)
        assert await ops.collect(channel) == list(range(3 * capacity))
        await spawned.outcome()

    ops.run(body)


def test_ring_grows_while_wrapped_round() -> None:
    """Values keep their order when the buffer grows at any position of its head (K1)."""
    for shift in range(9):
        channel: Channel[int] = Channel(40)
        for value in range(shift):
            channel.send(value)
            channel.recv()
        for value in range(40):
            channel.send_nowait(value)
        with pytest.raises(WouldBlock):
            channel.send_nowait(40)
        channel.close()
        assert list(channel) == list(range(40))


@both
def test_close_wakes_receivers_and_senders(ops: Any) -> None:
    """Closing wakes parked receivers with the end and parked senders with ChannelClosed, undelivered (K2)."""

    async def body(ops: Any) -> None:
        empty: Channel[int] = Channel()
        receiver = ops.spawn(ops.recv_ok, empty)
        raising = ops.spawn(ops.recv, empty)
        full: Channel[int] = Channel(1)
        await ops.send(full, 1)
        sender = ops.spawn(ops.send, full, 2)
        await ops.pause()
        assert empty.close() is True
        assert empty.close() is False
        assert full.close() is True
        assert await receiver.outcome() == (None, False)
        with pytest.raises(ChannelClosed):
            await raising.outcome()
        with pytest.raises(ChannelClosed):
            await sender.outcome()
        assert await ops.recv(full) == 1
        assert await ops.recv_ok(full) == (None, False)
        with pytest.raises(ChannelClosed):
            await ops.send(full, 3)

    ops.run(body)


@both
def test_close_with_error(ops: Any) -> None:
    """Once drained, recv and iteration raise ChannelClosed from the error; recv_ok and select answer the end (K3)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(2)
        await ops.send(channel, 1)
        reason = ValueError("broken")
        channel.close(reason)
        assert channel.error is reason
        assert await ops.recv(channel) == 1
        with pytest.raises(ChannelClosed) as caught:
            await ops.recv(channel)
        assert caught.value.__cause__ is reason
        with pytest.raises(ChannelClosed) as caught:
            await ops.collect(channel)
        assert caught.value.__cause__ is reason
        assert await ops.recv_ok(channel) == (None, False)
        got = await ops.select(channel)
        assert (got.value, got.ok) == (None, False)

    ops.run(body)


def test_carries_anything() -> None:
    """None, channels, and the channel itself can be sent (K4)."""
    channel: Channel[Any] = Channel(3)
    for value in (None, Channel(), channel):
        channel.send(value)
    assert channel.recv() is None
    assert isinstance(channel.recv(), Channel)
    assert channel.recv() is channel


def test_dropped_channel_frees_its_values() -> None:
    """A dropped channel frees what it holds, and a channel in its own buffer is collected (K5)."""

    class Value:
        pass

    channel: Channel[Any] = Channel(4)
    value = Value()
    alive = weakref.ref(value)
    channel.send(value)
    channel.send(channel)
    gone = weakref.ref(channel)
    del value, channel
    gc.collect()
    assert alive() is None
    assert gone() is None


def test_received_values_are_not_kept() -> None:
    """A received value is referred to by nobody but the receiver (K5)."""

    class Value:
        pass

    channel: Channel[Any] = Channel(2)
    channel.send(Value())
    alive = weakref.ref(channel.recv())
    gc.collect()
    assert alive() is None


@both
def test_timeout_zero_takes_what_is_ready(ops: Any) -> None:
    """timeout=0 takes what is ready, otherwise raises TimeoutError (C8)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(1)
        with pytest.raises(TimeoutError):
            await ops.recv(channel, 0)
        await ops.send(channel, 1, 0)
        with pytest.raises(TimeoutError):
            await ops.send(channel, 2, 0)
        with pytest.raises(TimeoutError):
            await ops.send(channel, 2, -1)
        assert await ops.recv(channel, 0) == 1

    ops.run(body)


@both
def test_waiters_are_served_in_order(ops: Any) -> None:
    """Parked receivers get values in the order of their arrival, and so are parked senders served (C7)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()
        receivers = []
        for _ in range(3):
            receivers.append(ops.spawn(ops.recv, channel))
            await ops.pause()
        for value in range(3):
            await ops.send(channel, value)
        assert [await receiver.outcome() for receiver in receivers] == [0, 1, 2]
        senders = []
        for value in range(3):
            senders.append(ops.spawn(ops.send, channel, value))
            await ops.pause()
        assert [await ops.recv(channel) for _ in range(3)] == [0, 1, 2]
        for sender in senders:
            await sender.outcome()

    ops.run(body)


@both
def test_ended_context_raises_even_if_ready(ops: Any) -> None:
    """In an ended context the next operation raises Cancelled though it could go ahead; nowait does not look (X1)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(2)
        await ops.send(channel, 1)
        context = Context.background().with_cancel()
        context.cancel()
        with context.attach():
            with pytest.raises(Cancelled):
                await ops.recv(channel)
            with pytest.raises(Cancelled):
                await ops.send(channel, 2)
            assert channel.recv_nowait() == 1
            channel.send_nowait(3)
        assert await ops.recv(channel) == 3

    ops.run(body)


@both
def test_parked_operation_ends_with_its_context(ops: Any) -> None:
    """A parked operation is woken by the end of its context, and has not happened (X1, C4)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()
        context = Context.background().with_cancel()

        async def under(operation: Any, *args: Any) -> Any:
            with context.attach():
                return await operation(*args)

        receiver = ops.spawn(under, ops.recv, channel)
        other: Channel[int] = Channel()
        sender = ops.spawn(under, ops.send, other, 1)
        await ops.pause()
        context.cancel(ValueError("why"))
        for spawned in (receiver, sender):
            with pytest.raises(Cancelled) as caught:
                await spawned.outcome()
            assert str(caught.value.cause) == "why"
            assert caught.value.origin is context
        assert channel.statistics().waiting_receivers == 0
        assert other.statistics().waiting_senders == 0
        with pytest.raises(WouldBlock):
            channel.send_nowait(1)

    ops.run(body)


def test_blocking_in_a_loop_is_refused() -> None:
    """A thread that runs a loop and would have to park gets an error that names what to await (C3)."""

    async def scenario() -> None:
        channel: Channel[int] = Channel(1)
        with pytest.raises(RuntimeError, match=r"would block the event loop; use 'await Channel\.arecv\(\)'"):
            channel.recv()
        channel.send(1)
        with pytest.raises(RuntimeError, match=r"use 'await Channel\.asend\(\)'"):
            channel.send(2)
        with pytest.raises(RuntimeError, match=r"use 'await aselect\(\)'"):
            select(Channel())
        with pytest.raises(TimeoutError):
            channel.send(2, timeout=0)
        assert channel.recv() == 1

    asyncio.run(scenario())


def test_asend_that_fits_does_not_suspend() -> None:
    """Awaiting what is ready does not suspend the task."""

    async def scenario() -> None:
        channel: Channel[int] = Channel(1)
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        await channel.asend(1)
        assert await channel.arecv() == 1
        assert ran == []

    asyncio.run(scenario())


def test_operations_can_be_made_tasks() -> None:
    """The awaitables of asend and arecv can be given to create_task, gather and wait_for, ready or not."""

    async def scenario() -> None:
        channel: Channel[int] = Channel(1)
        await asyncio.create_task(channel.asend(1))
        assert await asyncio.create_task(channel.arecv()) == 1
        task = asyncio.create_task(channel.arecv())
        await asyncio.sleep(0)
        await asyncio.gather(channel.asend(2), channel.asend(3))
        assert await asyncio.wait_for(task, 5) == 2
        channel.recv()
        channel.close()
        with pytest.raises(ChannelClosed):
            await asyncio.create_task(channel.asend(4))

    asyncio.run(scenario())


def test_cancelled_sender_takes_its_value_out_of_the_buffer() -> None:
    """A parked sender whose value has moved into the buffer takes it back when cancelled before it runs (C4)."""

    async def scenario() -> None:
        channel: Channel[int] = Channel(2)
        channel.send(1)
        channel.send(2)
        first = asyncio.create_task(channel.asend(3))
        second = asyncio.create_task(channel.asend(4))
        await asyncio.sleep(0)
        assert channel.recv_nowait() == 1
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        assert [channel.recv_nowait(), channel.recv_nowait()] == [2, 4]

    asyncio.run(scenario())


def test_cancelled_sender_whose_value_was_received_has_sent() -> None:
    """A send that can no longer be undone returns, and the cancellation comes at the next suspension (C4)."""

    async def scenario() -> None:
        channel: Channel[int] = Channel()
        log = []

        async def sender() -> None:
            await channel.asend(1)
            log.append("returned")
            await asyncio.sleep(5)

        task = asyncio.create_task(sender())
        await asyncio.sleep(0)
        assert channel.recv_nowait() == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["returned"]

    asyncio.run(scenario())


def test_threads_and_loops_share_a_channel() -> None:
    """Any mix of threads and event loops uses one channel (C2)."""
    channel: Channel[int] = Channel(3)
    out: Channel[int] = Channel(3)

    async def doubler() -> None:
        async for value in channel:
            await out.asend(2 * value)

    loops = [threading.Thread(target=asyncio.run, args=(doubler(),)) for _ in range(2)]
    for loop in loops:
        loop.start()
    feeder = threading.Thread(target=lambda: ([channel.send(n) for n in range(300)], channel.close()))
    feeder.start()
    total = sum(out.recv(10) for _ in range(300))
    for thread in [*loops, feeder]:
        thread.join(10)
    assert total == 2 * sum(range(300))


def test_loop_closed_with_parked_task_loses_nothing() -> None:
    """A value handed to a task of a closed loop goes to the next receiver (C4)."""
    channel: Channel[int] = Channel()
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(channel.arecv())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    channel.send(5, timeout=5)
    assert channel.recv(timeout=5) == 5
    task._log_destroy_pending = False


HANDED_OVER: dict[str, Any] = {
    # what a task waits for: object, the wait, what hands it over, what shows that nobody has it
    "recv": (Channel, lambda c: c.arecv(), lambda c: c.send_nowait(7), lambda c: c.recv(LIMIT) == 7),
    "recv_ok": (Channel, lambda c: c.arecv_ok(), lambda c: c.send_nowait(7), lambda c: c.recv(LIMIT) == 7),
    "select": (Channel, lambda c: aselect(c, None), lambda c: c.send_nowait(7), lambda c: c.recv(LIMIT) == 7),
    "send": (
        lambda: filled(Channel(1)),
        lambda c: c.asend(8),
        lambda c: c.recv_nowait(),
        lambda c: c.statistics().length == 0,
    ),
    "mutex": (Mutex, lambda m: m.aacquire(), lambda m: m.release(), lambda m: m.acquire(LIMIT) is None),
    "semaphore": (
        lambda: Semaphore(2),
        lambda s: s.aacquire(2),
        lambda s: s.release(2),
        lambda s: s.acquire(2, LIMIT) is None,
    ),
    "read lock": (
        RWMutex,
        lambda rw: rw.aacquire_read(),
        lambda rw: rw.release_write(),
        lambda rw: rw.acquire_write(LIMIT) is None,
    ),
    "write lock": (
        RWMutex,
        lambda rw: rw.aacquire_write(),
        lambda rw: rw.release_write(),
        lambda rw: rw.acquire_write(LIMIT) is None,
    ),
}


def filled(channel: Channel[int]) -> Channel[int]:
    channel.send_nowait(1)
    return channel


@pytest.mark.parametrize("ops", COLOURS[1:], ids=lambda ops: ops.name)
@pytest.mark.parametrize("name", HANDED_OVER)
def test_loop_closed_with_a_hand_over_under_way_loses_nothing(ops: Any, name: str) -> None:
    """Handed over from another thread, and the loop is closed before the task runs: nobody has got it (C4).

    The task is still referred to: it is not its end that gives back."""
    make, wait, hand_over, is_free = HANDED_OVER[name]
    subject = make()
    if name in {"mutex", "semaphore"}:
        subject.acquire(*([2] if name == "semaphore" else []))
    elif "lock" in name:
        subject.acquire_write()
    loop = (ops.factory or asyncio.new_event_loop)()

    async def waits() -> None:
        await wait(subject)

    task: Any = loop.create_task(waits())
    loop.run_until_complete(asyncio.sleep(0.001))
    hand_over(subject)
    loop.close()
    assert is_free(subject)
    assert not task.done()
    task._log_destroy_pending = False


def test_scope_that_ends_while_the_operation_parks() -> None:
    """An ending between the look at the context and the parking is not missed."""
    for _ in range(300):
        with cancel_scope() as scope:
            thread = threading.Thread(target=scope.cancel)
            thread.start()
            Channel().recv(10)
        thread.join()
        assert scope.error is not None


def test_views_have_one_direction() -> None:
    """Views are equal by channel, forward everything of their direction, and refuse the other by name."""
    channel: Channel[int] = Channel(2, name="numbers")
    assert isinstance(channel.sender, SendChannel)
    assert isinstance(channel.receiver, RecvChannel)
    assert channel.sender == channel.sender
    assert channel.receiver != channel.sender
    channel.sender.send(1)
    assert (channel.receiver.recv(), channel.receiver.name) == (1, "numbers")
    with pytest.raises(AttributeError, match="receiving view cannot send"):
        channel.receiver.send(1)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="receiving view cannot close"):
        channel.receiver.close()  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="sending view cannot recv"):
        channel.sender.recv()  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="sending view is no case"):
        select(channel.sender)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "capacity must be 0"),
        ((1.5,), TypeError, "capacity must be an integer"),
        (("3",), TypeError, "capacity must be an integer"),
        ((True,), TypeError, "capacity must be an integer"),
    ],
)
def test_bad_capacity(arguments: Any, error: type[Exception], message: str) -> None:
    """A capacity that is no count is refused by name."""
    with pytest.raises(error, match=message):
        Channel(*arguments)


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", TypeError), (b"1", TypeError), (float("nan"), ValueError), (object(), TypeError)]
)
def test_bad_timeout(timeout: Any, error: type[Exception]) -> None:
    """A timeout that is no number of seconds is refused by name."""
    with pytest.raises(error, match="timeout must be a number of seconds"):
        Channel().recv(timeout)


def test_statistics() -> None:
    """Statistics tell what is held, what has passed and who waits, at one instant."""
    channel: Channel[int] = Channel(2)
    channel.send(1)
    channel.send(2)
    channel.recv()
    statistics = channel.statistics()
    assert (statistics.length, statistics.capacity, statistics.sent, statistics.received) == (1, 2, 2, 1)
    assert not statistics.closed
    with pytest.raises(AttributeError):
        statistics.sent = 3  # type: ignore[misc]


def test_with_closes() -> None:
    """Leaving a `with` block closes the channel."""
    with Channel[int](1) as channel:
        channel.send(1)
    assert channel.closed
    assert list(channel) == [1]


def test_deadline_of_the_context_ends_a_parked_thread() -> None:
    """A thread parked under a deadline goes on when it passes (X1)."""
    with pytest.raises(TimeoutError), fail_after(0.02):
        Channel().recv()
