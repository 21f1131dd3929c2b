"""Bugs of etcd.

The kernels are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO
2021), written anew for Penstock.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, ChannelClosed, Context, Mutex, RWMutex, Ticker, WaitGroup, select

if TYPE_CHECKING:
    from collections.abc import Callable


@blocking("etcd", 5509)
def etcd_5509(fixed: bool) -> None:
    """A client that finds the connection closed returns with the lock held for reading, and `close` never gets it to
    write.

    Fixed: it unlocks in that case too.
    """
    lock = RWMutex()
    remote = Mutex()
    context: Context | None = Context.background().with_cancel()
    done = Channel[None]()

    def acquire() -> None:
        for _ in range(3):
            lock.acquire_read()
            closed = context is None
            with remote:
                pass
            if closed:
                if fixed:
                    lock.release_read()
                return
            lock.release_read()

    def get() -> None:
        acquire()
        done.close()

    def close() -> None:
        nonlocal context
        with lock.write():
            if context is None:
                return
            context.cancel()
            context = None
        with lock.write():
            pass

    go(get)
    close()
    done.recv_ok()


@blocking("etcd", 6708)
def etcd_6708(fixed: bool) -> None:
    """A client locks its endpoints to write and asks for the leader, which locks them to read.

    Fixed: it asks before it locks.
    """
    endpoints = RWMutex()

    def ask_for_leader() -> None:
        with endpoints.read():
            pass

    def sync() -> None:
        if fixed:
            ask_for_leader()
        with endpoints.write():
            if not fixed:
                ask_for_leader()

    sync()


@blocking("etcd", 6857)
def etcd_6857(fixed: bool) -> None:
    """Somebody asks a node for its status after it has stopped.

    Fixed: who asks watches for the node's end.
    """
    requests = Channel[Channel[str]]()
    stopping = Channel[None]()
    done = Channel[None]()

    def run() -> None:
        while (got := select(requests, stopping)).channel is requests:
            got.value.send("fine")
        done.close()

    def status() -> None:
        answer = Channel[str]()
        if not fixed:
            requests.send(answer)
        elif select(requests.sending(answer), done).index == 1:
            return
        answer.recv()

    def stop() -> None:
        if select(stopping.sending(None), done).index == 0:
            done.recv_ok()

    go(run)
    go(status)
    go(stop)


@blocking("etcd", 6873)
def etcd_6873(fixed: bool) -> None:
    """`stop` waits with the mutex locked for the task that handles updates, and that needs the mutex for the last one.

    Fixed: it unlocks before it waits.
    """
    mutex = Mutex()
    updates = Channel[str](1)
    done = Channel[None]()

    def handle_updates() -> None:
        with done:
            for _ in updates:
                with mutex:
                    pass

    def stop() -> None:
        with mutex:
            updates.close()
            if not fixed:
                done.recv_ok()
        done.recv_ok()

    go(handle_updates)
    select(updates.sending("update"), default=True)
    go(stop)


class _Balancer:
    """Pins one of three addresses, and announces which of them are to be connected."""

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.mutex = Mutex()
        self.closed = False
        self.pinned = 0  # none, as long as it is the first address that comes up
        self.announced = Channel[list[int]](1)
        self.announced.send([0, 1, 2])

    def announce(self, addresses: list[int]) -> None:
        if self.fixed:
            select(self.announced, default=True)
        self.announced.send(addresses)

    def up(self, address: int) -> Callable[[], None]:
        with self.mutex:
            if self.closed:
                return lambda: None
            if self.pinned == 0:
                self.pinned = address
                self.announce([address])
        return lambda: self.down(address)

    def down(self, address: int) -> None:
        with self.mutex, suppress(ChannelClosed):
            if self.pinned == address:
                self.pinned = 0
                self.announce([0, 1, 2])

    def close(self) -> None:
        with self.mutex:
            self.closed = True
            self.announced.close()
            self.pinned = 0


class _Connection:
    """To one address."""

    def __init__(self, balancer: _Balancer, address: int) -> None:
        self.balancer = balancer
        self.address = address
        self.mutex = Mutex()
        self.down: Callable[[], None] | None = None

    def connect(self) -> None:
        with self.mutex:
            self.down = self.balancer.up(self.address)

    def tear_down(self) -> None:
        with self.mutex:
            if self.down is not None:
                self.down()
                self.down = None


class _Client:
    """Keeps connections to the addresses that the balancer announces."""

    def __init__(self, balancer: _Balancer) -> None:
        self.balancer = balancer
        self.mutex = RWMutex()
        self.connections: dict[int, _Connection] | None = {}
        go(self.follow)

    def follow(self) -> None:
        for addresses in self.balancer.announced:
            with self.mutex.write():
                connections = {} if self.connections is None else self.connections
                new = [address for address in addresses if address not in connections]
                old = [connections.pop(address) for address in list(connections) if address not in addresses]
            for address in new:
                self.add(address)
            for connection in old:
                connection.tear_down()

    def add(self, address: int) -> None:
        connection = _Connection(self.balancer, address)
        with self.mutex.write():
            if self.connections is None:
                return
            self.connections[address] = connection
        go(connection.connect)

    def close(self) -> None:
        with self.mutex.write():
            connections, self.connections = self.connections, None
        self.balancer.close()
        for connection in (connections or {}).values():
            connection.tear_down()


@blocking("etcd", 7443)
def etcd_7443(fixed: bool) -> None:
    """A balancer waits with its mutex locked for room to announce addresses, and the task that receives them is just
    tearing a connection down, which announces addresses too.

    Fixed: an announcement replaces the one before.
    """
    balancer = _Balancer(fixed)
    client = _Client(balancer)
    closed = Channel[None]()

    def close_balancer() -> None:
        with closed:
            balancer.close()

    go(close_balancer)
    go(client.close)
    closed.recv_ok()


@blocking("etcd", 7492)
def etcd_7492(fixed: bool) -> None:
    """Who assigns a token hands it to the keeper with the mutex locked, and the keeper, about to delete one that has
    expired, needs the mutex.

    Fixed: the token is handed over after the mutex is unlocked.
    """
    mutex = RWMutex()
    added = Channel[str](1)
    stopping = Channel[Channel[None]]()

    def keep() -> None:
        tokens: set[str] = set()
        ticker = Ticker(0.001)
        while True:
            got = select(added, ticker.channel, stopping)
            if got.channel is added:
                tokens.add(got.value)
            elif got.channel is stopping:
                got.value.send(None)
                break
            else:
                while tokens:
                    with mutex.write():
                        tokens.pop()
        ticker.stop()

    def assign() -> None:
        mutex.acquire_write()
        if fixed:
            mutex.release_write()
        added.send("token")
        if not fixed:
            mutex.release_write()

    def disable() -> None:
        stopped = Channel[None]()
        stopping.send(stopped)
        stopped.recv()
        with mutex.write():
            pass

    go(keep)
    assigning = WaitGroup()
    for _ in range(3):
        assigning.go(assign)
    assigning.wait()
    disable()


@blocking("etcd", 7902)
def etcd_7902(fixed: bool) -> None:
    """A follower waits with the mutex locked for the leader to open the next round, for which the leader needs the
    mutex, or waits for a follower that does.

    Fixed: neither is done under the mutex.
    """
    members = 3
    mutex = Mutex()
    validated = Channel[None](members)
    next_round = Channel[None]()

    def member(leader: bool) -> None:
        nonlocal next_round
        for _ in range(2):
            with mutex:
                opened = next_round
                validated.send(None)
            if leader:
                for _ in range(members):
                    validated.recv()
            if not fixed:
                mutex.acquire()
            if leader:
                next_round = Channel()
                opened.close()
            opened.recv_ok()
            if not fixed:
                mutex.release()

    def elections() -> None:
        running = WaitGroup()
        for i in range(members):
            running.go(member, i == 0)
        running.wait()

    go(elections)


@blocking("etcd", 10492)
def etcd_10492(fixed: bool) -> None:
    """Renewing a lease makes a checkpoint under the lock, which the checkpoint takes too.

    Fixed: the lock is given back for the checkpoint.
    """
    lock = RWMutex()
    checkpointer: Callable[[], None] | None = None

    def checkpoint() -> None:
        with lock.write():
            pass

    def set_checkpointer(function: Callable[[], None]) -> None:
        nonlocal checkpointer
        with lock.write():
            checkpointer = function

    def renew() -> None:
        lock.acquire_write()
        if checkpointer is not None:
            if fixed:
                lock.release_write()
            checkpointer()
            if fixed:
                lock.acquire_write()
        lock.release_write()

    set_checkpointer(checkpoint)
    renew()
