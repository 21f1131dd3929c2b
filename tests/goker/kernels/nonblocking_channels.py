"""Misused channels: a send on a closed one, one that is not there yet, one that is not there any more.

After the kernels of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
Written anew for Penstock from what is told there of each bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import non_blocking

from penstock import Channel, Group, Mutex, Once, WaitGroup, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.001


@non_blocking("etcd", 3077)
def etcd_3077(fixed: bool) -> None:
    """A node makes its channels only once its task runs, which its server's task need not await before it uses them.
    Fixed by making them with the node.
    """

    class Node:
        def __init__(self) -> None:
            if fixed:
                self.make_channels()

        def make_channels(self) -> None:
            self.stopped: Channel[None] = Channel()
            self.done: Channel[None] = Channel()

        def run(self) -> None:
            if not fixed:
                self.make_channels()
            with self.done:
                self.stopped.recv()

    def serve() -> None:
        node = Node()
        group.go(node.run)
        sleep(TICK)  # By then it runs, surely.
        stop.recv()
        node.stopped.send(None)
        node.done.recv_ok()
        done.close()

    stop: Channel[None] = Channel()
    done: Channel[None] = Channel()
    with Group() as group:
        group.go(serve)
        select(stop.sending(None), done)
        done.recv_ok()


@non_blocking("grpc", 1687)
def grpc_1687(fixed: bool) -> None:
    """The status is the last thing written to a stream, and closes the channel that a later write sends on. Fixed by
    closing another, which says that the stream has ended.
    """

    def write() -> None:
        if select(closed, default=True) is None:
            select(writes.sending(lambda: None), closed)

    def write_status() -> None:
        write()
        if fixed:
            closed.close()
        else:
            writes.close()

    def handle() -> None:
        write_status()
        write()

    writes: Channel[Callable[[], None]] = Channel()
    closed: Channel[None] = Channel()
    go(handle)
    while (got := select(writes, closed)).ok:
        got.value()


@non_blocking("grpc", 2371)
def grpc_2371(fixed: bool) -> None:
    """A connection's balancer is gone once the connection is closed, and what its resolver reports is still handed to
    it. Fixed by looking whether it is there.
    """

    class Balancer:
        def __init__(self) -> None:
            self.updates: Channel[None] = Channel(1)

        def update(self) -> None:
            select(self.updates, default=True)
            self.updates.send(None)

    class Connection:
        def __init__(self) -> None:
            self.lock = Mutex()
            self.balancer: Balancer | None = Balancer()
            go(self.resolve)

        def resolve(self) -> None:
            with self.lock:
                if self.balancer is None and fixed:
                    return
                self.balancer.update()

        def close(self) -> None:
            with self.lock:
                self.balancer = None

    connection = Connection()
    go(connection.close)


@non_blocking("istio", 8967)
def istio_8967(fixed: bool) -> None:
    """A source that is stopped closes its channel and forgets it, before the source's task has looked for it. Fixed by
    keeping it.
    """

    class Source:
        def __init__(self) -> None:
            self.done: Channel[None] | None = Channel()

        def start(self) -> None:
            go(self.run)

        def run(self) -> None:
            self.done.recv_ok()

        def stop(self) -> None:
            self.done.close()
            if not fixed:
                self.done = None

    source = Source()
    source.start()
    source.stop()


@non_blocking("serving", 3068)
def serving_3068(fixed: bool) -> None:
    """A pool is waited for, which closes its queue, while a task still hands work to it. Fixed by waiting for that task
    first.
    """

    class Pool:
        def __init__(self, workers: int, capacity: int) -> None:
            self.unfinished = WaitGroup()
            self.work: Channel[Callable[[], None]] = Channel(capacity)
            self.once = Once()
            for _ in range(workers):
                go(self.run)

        def run(self) -> None:
            for function in self.work:
                function()
                self.unfinished.done()

        def go(self, function: Callable[[], None]) -> None:
            self.unfinished.add()
            try:
                self.work.send(function)
            except BaseException:
                self.unfinished.done()
                raise

        def close(self) -> None:
            self.work.close()
            go(self.unfinished.wait)

        def wait(self) -> None:
            self.once.do(self.close)

    def hand_over() -> None:
        try:
            for _ in range(jobs):
                pool.go(lambda: None)
                sleep(TICK)
        finally:
            handed_over.done()

    jobs = 5
    pool = Pool(workers=1, capacity=5)
    handed_over = WaitGroup()
    handed_over.add()
    go(hand_over)
    if fixed:
        handed_over.wait()
    pool.wait()
    handed_over.wait()


@non_blocking("serving", 5865)
def serving_5865(fixed: bool) -> None:
    """A watcher closes, when it ends, the channel that its owner sends destinations on. Fixed by closing another for
    the owner to look at.
    """

    class Watcher:
        def __init__(self) -> None:
            self.destinations: Channel[str] = Channel()
            self.done: Channel[None] = Channel()

        def run(self) -> None:
            self.done.close()
            if not fixed:
                self.destinations.close()

    def get_or_create() -> Watcher:
        with lock:
            watcher = Watcher()
            go(watcher.run)
            return watcher

    lock = Mutex()
    watcher = get_or_create()
    if fixed:
        select(watcher.destinations.sending("10.0.0.1"), watcher.done)
    else:
        watcher.destinations.send("10.0.0.1")
