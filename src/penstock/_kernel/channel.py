"""The channel: a bounded FIFO of values between tasks, or a rendezvous. Semantics after Go's `runtime/chan.go`.

The public class is `penstock.Channel`, which adds the asyncio colour.

Invariants (guarded by the channel's lock)
  K1. `_ring` holds the values accepted and not yet received: `_count` of them from `_head` on, at most `_capacity`. A
      slot whose sender was parked and has not run on yet holds that sender's Node in place of its value, so that the
      sender can still take the value back. `_items` is where the list keeps its items.
  K2. `_returned` holds the nodes whose value was handed to a receiver that then gave up, ordered by `node.amount`, the
      ticket of the first hand-over. They come before everything in `_ring`.
  K3. A receiver is parked only while there is nothing to receive: no value, no parked sender, not closed.
  K4. A sender is parked only while the channel is full and not closed.
  K5. Closed: nobody is parked, and nothing is accepted any more.
"""

from __future__ import annotations

from typing import Any

from penstock.errors import ChannelClosed, WouldBlock

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        ambient_bind,
        ambient_get,
        immortal,
        items_of,
        lock_drop,
        lock_take,
        moved,
        ring_put,
        ring_take,
        shared,
    )
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import deadline_after, park
    from penstock._kernel.scopes import AMBIENT
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import DONE, Node, Queue, Source, Waiter, chained, new_node, wake_all

    RECEIVE, SEND = 0, 1  # A node's kind.
    FULL, SENT, SHUT = 0, 1, 2  # What became of an attempt to send.

ambient_bind(AMBIENT)

# What an attempt to receive gives in place of a value.
EMPTY: Any = immortal(object())
CLOSED: Any = immortal(object())
closed_mark = CLOSED  # For the code above the kernel.


class ChannelCore(Source):
    """A channel without its asyncio colour."""

    __slots__ = (
        "_accepted",
        "_capacity",
        "_closed",
        "_count",
        "_error",
        "_head",
        "_items",
        "_name",
        "_receivers",
        "_returned",
        "_ring",
        "_senders",
        "_size",
        "_ticket",
        "_woken",
    )

    def __init__(self, capacity: int = 0, *, name: str | None = None) -> None:
        Source.__init__(self)
        if type(capacity) is not int:
            if isinstance(capacity, bool) or not hasattr(capacity, "__index__"):
                raise TypeError(f"capacity must be an integer, not {capacity!r}")
            capacity = capacity.__index__()
        if capacity < 0:
            raise ValueError(f"capacity must be 0 (a rendezvous) or more, not {capacity}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {name!r}")
        self._capacity = min(capacity, (1 << 62))
        self._size = min(capacity, 8)
        self._ring: list[Any] = [None] * self._size
        self._items = items_of(self._ring)
        self._receivers = Queue()
        self._senders = Queue()
        self._name = name
        if not cython.compiled:
            self._returned: list[Node] | None = None
            self._head = self._count = self._ticket = self._accepted = 0
            self._closed = False
            self._error: BaseException | None = None
            self._woken: Waiter | None = None

    # Under the lock (of this channel, or of all the channels of a select)

    @cython.final
    def receivable(self) -> bool:
        return (
            self._count > 0
            or self._closed
            or self._returned is not None
            or (self._senders.first is not None and self._senders.next_waiting() is not None)
        )

    @cython.final
    def sendable(self) -> bool:
        return (
            self._closed
            or self._count < self._capacity
            or (self._receivers.first is not None and self._receivers.next_waiting() is not None)
        )

    @cython.final
    def receive_locked(self, receiver: Node | None) -> Any:
        """The next value; CLOSED; or EMPTY, with `receiver` queued if there is one. Leaves who is to be woken in
        `_woken`."""
        if self._returned is not None:
            node = self._returned[0]
            del self._returned[0]
            if not self._returned:
                self._returned = None
            if receiver is not None:
                receiver.amount = node.amount
            return node.value
        if receiver is not None:
            receiver.amount = self._ticket
            self._ticket += 1
        if self._count > 0:
            slot = self._take()
            if self._senders.first is not None:
                sender = self._senders.fire_next()
                if sender is not None:
                    sender.ok = True
                    self._accepted += 1
                    self._put(sender)
                    self._woken = sender.waiter
            if type(slot) is Node:
                node = slot
                return node.value
            return slot
        if self._senders.first is not None:
            sender = self._senders.fire_next()
            if sender is not None:
                sender.ok = True
                self._accepted += 1
                self._woken = sender.waiter
                return sender.value
        if self._closed:
            return CLOSED
        if receiver is not None:
            self._receivers.append(receiver)
        return EMPTY

    @cython.final
    def send_locked(self, value: Any, sender: Node | None) -> int:
        """SENT; SHUT; or FULL, with `sender` queued if there is one. Leaves who is to be woken in `_woken`."""
        if self._closed:
            return SHUT
        if self._receivers.first is not None:
            receiver = self._receivers.fire_next()
            if receiver is not None:
                receiver.value = shared(value)
                receiver.ok = True
                receiver.amount = self._ticket
                self._ticket += 1
                self._accepted += 1
                self._woken = receiver.waiter
                return SENT
        if self._count < self._capacity:
            self._accepted += 1
            self._put(value)
            return SENT
        if sender is not None:
            self._senders.append(sender)
        return FULL

    @cython.final
    def take_woken(self) -> Waiter | None:
        """Who is to be woken after the lock has been released."""
        waiter = self._woken
        self._woken = None
        return waiter

    @cython.final
    def _take(self) -> Any:
        """The first slot; there is one."""
        at = self._head
        self._head = at + 1 if at + 1 < self._size else 0
        self._count -= 1
        return ring_take(self._items, at)

    @cython.final
    def _place(self, slot: Any) -> None:
        """A new last slot; there is room in the ring."""
        at = self._head + self._count
        if at >= self._size:
            at -= self._size
        ring_put(self._items, at, slot)
        self._count += 1

    @cython.final
    def _put(self, slot: Any) -> bool:
        """A new last slot; there is room in the channel."""
        if self._count == self._size:
            self._grow()
        self._place(slot)
        return True

    @cython.final
    def _grow(self) -> bool:
        """Double the ring, up to the capacity; what had wrapped round moves behind what had not."""
        size = self._size
        room = min(size, self._capacity - size)
        for _ in range(room):
            self._ring.append(None)
        self._items = items_of(self._ring)
        self._size = size + room
        for at in range(min(self._head, room)):
            ring_put(self._items, size + at, ring_take(self._items, at))
        if room < self._head:
            for at in range(room, self._head):
                ring_put(self._items, at - room, ring_take(self._items, at))
        return True

    # One operation of this channel alone

    @cython.final
    def receive(self, receiver: Node | None) -> Any:
        waiter = None
        lock_take(self._lock)
        try:
            value = self.receive_locked(receiver)
            if self._woken is not None:
                waiter = self.take_woken()
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return value

    @cython.final
    def send_value(self, value: Any, sender: Node | None) -> int:
        waiter = None
        lock_take(self._lock)
        try:
            outcome = self.send_locked(value, sender)
            if self._woken is not None:
                waiter = self.take_woken()
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return outcome

    # Undoing what was done

    def take_back(self, node: Node) -> bool:
        if not node.ok:
            return True  # It was told that the channel is closed: nothing happened.
        if node.kind == RECEIVE:
            return self._take_back_received(node)
        return self._take_back_sent(node)

    @cython.final
    def _take_back_received(self, node: Node) -> bool:
        """The value goes to the next receiver, or to the front."""
        waiter = None
        spare: list[Node] = []
        lock_take(self._lock)
        try:
            receiver = self._receivers.fire_next()
            if receiver is not None:
                receiver.value = node.value
                receiver.ok = True
                receiver.amount = node.amount
                waiter = receiver.waiter
            else:
                if self._returned is None:
                    self._returned = spare
                at = len(self._returned)
                while at > 0 and self._is_later(at - 1, node):
                    at -= 1
                self._returned.insert(at, node)
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return True

    def _is_later(self, at: int, node: Node) -> bool:
        other = self._returned[at]
        return other.amount > node.amount

    @cython.final
    def _take_back_sent(self, node: Node) -> bool:
        """Possible while the value is in the buffer. The next sender gets the place."""
        waiter = None
        found = False
        lock_take(self._lock)
        try:
            size = self._size
            for offset in range(self._count):
                at = (self._head + offset) % size
                if found:
                    to = at - 1 if at > 0 else size - 1
                    ring_put(self._items, to, ring_take(self._items, at))
                elif self._ring[at] is node:
                    found = True
                    ring_take(self._items, at)
            if found:
                self._count -= 1
                self._accepted -= 1
                sender = self._senders.fire_next()
                if sender is not None:
                    sender.ok = True
                    self._accepted += 1
                    self._put(sender)
                    waiter = sender.waiter
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return found

    # Receiving

    @cython.final
    def poll(self) -> Any:
        """What is ready, under the ambient context; EMPTY or CLOSED where there is nothing."""
        scope = ambient_get()
        if scope is not None:
            scope.require()
        if cython.compiled:  # The common case in few steps; nothing in it can raise.
            lock_take(self._lock)
            if self._count > 0 and self._senders.first is None and self._returned is None:
                value = self._take()
                lock_drop(self._lock)
                if type(value) is not Node:
                    return moved(value)
                node = value
                return node.value
            lock_drop(self._lock)
        return self.receive(None)

    def recv(self, timeout: float | None = None) -> Any:
        """Receive the next value; wait while there is none.

        Raises `ChannelClosed` once the channel is closed and drained, `TimeoutError` after `timeout` seconds and
        `Cancelled` if the ambient context ends, in each case without having received anything.
        """
        value = self.poll()
        if value is EMPTY:
            value = self._park_receive(timeout, "Channel.recv", "Channel.arecv")
        if value is CLOSED:
            raise self.closed_error()
        return moved(value)

    def recv_ok(self, timeout: float | None = None) -> tuple[Any, bool]:
        """As `recv`, in Go's comma-ok form: `(value, True)`, or `(None, False)` once closed and drained."""
        value = self.poll()
        if value is EMPTY:
            value = self._park_receive(timeout, "Channel.recv_ok", "Channel.arecv_ok")
        if value is CLOSED:
            return None, False
        return value, True

    def recv_nowait(self) -> Any:
        """Receive a value that is ready. Raises `WouldBlock` if none is, `ChannelClosed` once closed and drained.

        Does not look at the ambient context, and may be called anywhere: in a signal handler, a finalizer, a loop.
        """
        value = self.receive(None)
        if value is EMPTY:
            raise WouldBlock("nothing to receive: the channel is empty")
        if value is CLOSED:
            raise self.closed_error()
        return moved(value)

    @cython.final
    def _park_receive(self, timeout: float | None, operation: str, instead: str) -> Any:
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError(f"{operation} timed out: nothing was ready")
        waiter = SEAM.runtime.thread_waiter(operation, instead)
        node = new_node(waiter, self, RECEIVE, None)
        value = self.receive(node)
        if value is not EMPTY:
            waiter.discard_nodes(node)
            return value
        node = park(waiter, deadline, operation)
        return node.value if node.ok else CLOSED

    def receive_or_wait(self, timeout: float | None, operation: str) -> Any:
        """For an asyncio task: the value; CLOSED; or a TaskWaiter to await and then give to `finish_receive`."""
        value = self.poll()
        if value is not EMPTY:
            return value
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError(f"{operation} timed out: nothing was ready")
        waiter = SEAM.runtime.task_waiter()
        node = new_node(waiter, self, RECEIVE, None)
        value = self.receive(node)
        if value is not EMPTY:  # Another thread was faster than the attempt before.
            waiter.discard_nodes(node)
            return value
        waiter.prepare(deadline, operation, False)
        return waiter

    def finish_receive(self, waiter: TaskWaiter) -> Any:
        """The value that the task received; CLOSED if the channel was closed instead."""
        node = waiter.settled()
        return node.value if node.ok else CLOSED

    def value_or_wait(self, timeout: float | None) -> Any:
        """As `receive_or_wait`, but raises if the channel is closed; then `finish_value`."""
        value = ChannelCore.receive_or_wait(self, timeout, "Channel.arecv")
        if value is CLOSED:
            raise self.closed_error()
        return value

    def finish_value(self, waiter: TaskWaiter) -> Any:
        value = ChannelCore.finish_receive(self, waiter)
        if value is CLOSED:
            raise self.closed_error()
        return value

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        value = self.poll()
        if value is EMPTY:
            value = self._park_receive(None, "Channel.recv", "Channel.arecv")
        if value is CLOSED:
            if self._error is not None:
                raise self.closed_error()
            raise StopIteration
        return moved(value)

    # Sending

    @cython.final
    def offered(self, value: Any) -> bool:
        """Send if that needs no wait, under the ambient context."""
        scope = ambient_get()
        if scope is not None:
            scope.require()
        if cython.compiled:  # The common case in few steps; nothing in it can raise.
            lock_take(self._lock)
            if self._count < self._size and self._receivers.first is None and not self._closed:
                self._accepted += 1
                self._place(value)
                lock_drop(self._lock)
                return True
            lock_drop(self._lock)
        outcome = self.send_value(value, None)
        if outcome == SHUT:
            raise self.closed_error()
        return outcome == SENT

    def send(self, value: Any, timeout: float | None = None) -> None:
        """Send `value`; wait until there is room, or, on a rendezvous, until a receiver has it.

        Raises `ChannelClosed` if the channel is closed or is closed meanwhile, `TimeoutError` after `timeout` seconds
        and `Cancelled` if the ambient context ends, in each case without having sent anything.
        """
        if not self.offered(value):
            self._park_send(value, timeout)

    def asend(self, value: Any, timeout: float | None = None) -> Any:
        """As `send`, for an asyncio task to await.

        Where nothing has to be waited for, the value is sent by the call itself, and the await does not suspend.
        """
        scope = ambient_get()
        if (scope is None or not scope.over()) and self.send_value(value, None) == SENT:
            return DONE
        return self._asend(value, timeout)

    def send_nowait(self, value: Any) -> None:
        """Send `value` if that needs no wait. Raises `WouldBlock` if it does, `ChannelClosed` if the channel is closed.

        Does not look at the ambient context, and may be called anywhere: in a signal handler, a finalizer, a loop.
        """
        outcome = self.send_value(value, None)
        if outcome == FULL:
            if self._capacity:
                raise WouldBlock(f"the channel is full: it holds {self._count} values")
            raise WouldBlock("no receiver is waiting")
        if outcome == SHUT:
            raise self.closed_error()

    @cython.final
    def _park_send(self, value: Any, timeout: float | None) -> Any:
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError("Channel.send timed out: there was no room, and no receiver")
        waiter = SEAM.runtime.thread_waiter("Channel.send", "Channel.asend")
        node = new_node(waiter, self, SEND, value)
        outcome = self.send_value(value, node)
        if outcome == FULL:
            node = park(waiter, deadline, "Channel.send")
            if node.ok:
                return None
            outcome = SHUT
        else:
            waiter.discard_nodes(node)
        if outcome == SHUT:
            raise self.closed_error()
        return None

    def send_or_wait(self, value: Any, timeout: float | None) -> Any:
        """For an asyncio task: None if the value has been sent, or a TaskWaiter to await and give to `finish_send`."""
        if self.offered(value):
            return None
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError("Channel.asend timed out: there was no room, and no receiver")
        waiter = SEAM.runtime.task_waiter()
        node = new_node(waiter, self, SEND, value)
        outcome = self.send_value(value, node)
        if outcome == FULL:
            waiter.prepare(deadline, "Channel.asend", False)
            return waiter
        waiter.discard_nodes(node)
        if outcome == SHUT:
            raise self.closed_error()
        return None

    def finish_send(self, waiter: TaskWaiter) -> None:
        node = waiter.settled()
        if not node.ok:
            raise self.closed_error()

    def sending(self, value: Any) -> SendCase:
        """A case for `select`: send `value` here. Good for one send."""
        return SendCase(self, value)

    # Closing, and what the channel tells

    def close(self, error: BaseException | None = None) -> bool:
        """Close the channel: nothing more can be sent, what it holds can still be received.

        Parked senders get `ChannelClosed`, and their values are not delivered. With `error`, receivers that find the
        channel drained get `ChannelClosed` with `error` as its cause. True for the call that closed the channel.
        """
        if error is not None and not isinstance(error, BaseException):
            raise TypeError(f"close() takes an exception or None, not {error!r}")
        first = last = None
        ours = False
        lock_take(self._lock)
        try:
            if not self._closed:
                self._closed = ours = True
                self._error = error
                while True:
                    node = self._receivers.fire_next()
                    if node is None:
                        node = self._senders.fire_next()
                        if node is None:
                            break
                    node.ok = False
                    first = chained(first, last, node.waiter)
                    last = node.waiter
        finally:
            lock_drop(self._lock)
        if first is not None:
            wake_all(first)
        return ours

    @cython.final
    def has_failed(self) -> bool:
        """Was it closed with an error, and is drained?"""
        if not self._closed:  # A look without the lock: who asks many channels takes few locks.
            return False
        lock_take(self._lock)
        failed = self._error is not None and self._held() == 0
        lock_drop(self._lock)
        return failed

    def closed_error(self) -> Any:
        error = ChannelClosed("the channel is closed" if self._name is None else f"channel {self._name} is closed")
        if self._error is not None:
            error.__cause__ = self._error
        return error

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def __len__(self) -> int:
        lock_take(self._lock)
        held = self._held()
        lock_drop(self._lock)
        return held

    @cython.final
    def _held(self) -> int:
        return self._count if self._returned is None else self._count + len(self._returned)

    def __bool__(self) -> bool:
        return True

    @property
    def name(self) -> str | None:
        """The name given at creation."""
        return self._name

    @property
    def capacity(self) -> int:
        """How many values the channel holds before senders wait; 0: a rendezvous."""
        return self._capacity

    @property
    def closed(self) -> bool:
        """Has the channel been closed? It may still hold values."""
        lock_take(self._lock)
        closed = self._closed
        lock_drop(self._lock)
        return closed

    @property
    def error(self) -> BaseException | None:
        """The error that the channel was closed with."""
        lock_take(self._lock)
        error = self._error
        lock_drop(self._lock)
        return error

    def counts(self) -> tuple[int, int, int, int, int, bool]:
        """For statistics, at one instant: held, capacity, accepted ever, parked senders and receivers, closed."""
        lock_take(self._lock)
        held = self._held()
        senders = self._senders.count()
        receivers = self._receivers.count()
        accepted = self._accepted
        closed = self._closed
        lock_drop(self._lock)
        return held, self._capacity, accepted, senders, receivers, closed


class SendCase:
    """A case for `select`: send a value on a channel. Made by `Channel.sending`; good for one send."""

    __slots__ = ("__weakref__", "channel", "state", "value")

    def __init__(self, channel: ChannelCore, value: Any) -> None:
        self.channel = channel
        self.value = value
        self.state = 0

    def __repr__(self) -> str:
        return f"<SendCase of {self.value!r} on {self.channel!r}>"


class SenderCore:
    """A channel's sending direction."""

    __slots__ = ("__weakref__", "_channel")

    def __init__(self, channel: ChannelCore) -> None:
        self._channel = channel


class ReceiverCore:
    """A channel's receiving direction."""

    __slots__ = ("__weakref__", "_channel")

    def __init__(self, channel: ChannelCore) -> None:
        self._channel = channel


empty_mark = EMPTY  # For the code above the kernel.
