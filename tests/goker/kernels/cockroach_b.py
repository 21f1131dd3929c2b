"""Bugs of CockroachDB, from its issue 10214 on.

The kernels are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO
2021), written anew for Penstock.
"""

from __future__ import annotations

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Condition, Context, Mutex, RWMutex, WaitGroup, select


@blocking("cockroach", 10214)
def cockroach_10214(fixed: bool) -> None:
    """Sending heartbeats locks the store's mutex and then a replica's, a replica's tick locks them the other way round.

    Fixed: the store's mutex is unlocked before the replicas are told.
    """

    class Replica:
        def __init__(self) -> None:
            self.raft = Mutex()
            self.mutex = Mutex()

    coalesced = Mutex()
    responses = [1, 2]
    replicas = [Replica(), Replica()]

    def send_heartbeats() -> None:
        coalesced.acquire()
        queued = list(responses)
        if fixed:
            coalesced.release()
        for _ in queued:
            for replica in replicas:
                with replica.raft:
                    pass
        if not fixed:
            coalesced.release()

    def tick(replica: Replica) -> None:
        with replica.raft, replica.mutex:
            for _ in range(2):
                with coalesced:
                    pass

    go(send_heartbeats)
    go(tick, replicas[0])


@blocking("cockroach", 10790)
def cockroach_10790(fixed: bool) -> None:
    """A cancelled command leaves a task behind to wait for all its prerequisites, those among them that have reported
    already and those that never will.

    Fixed: what is left behind waits for the rest, until the store quiesces.
    """
    prerequisites = [Channel[None](), Channel[None]()]
    mutex = Mutex()
    quiescing = Channel[None]()
    context = Context.background().with_cancel()

    def wait_out(rest: list[Channel[None]]) -> None:
        for channel in rest:
            if not fixed:
                channel.recv()
            elif select(channel, quiescing).channel is quiescing:
                return

    def begin() -> None:
        for i, channel in enumerate(prerequisites):
            if select(channel, context.done).index == 1:
                if fixed:
                    go(wait_out, prerequisites[i:])
                    return
                go(wait_out, prerequisites)

    def report() -> None:
        for channel in prerequisites:
            if select(channel.sending(None), context.done).index == 1:
                return

    go(report)
    go(begin)
    go(context.cancel)
    with mutex:
        quiescing.close()


@blocking("cockroach", 13197)
def cockroach_13197(fixed: bool) -> None:
    """A transaction that is begun and forgotten leaves a task that waits for the end of its context.

    Fixed: it is rolled back, which cancels the context.
    """

    class Transaction:
        def __init__(self, context: Context) -> None:
            self.context = context.with_cancel()
            go(self.context.done.recv_ok)

        def rollback(self) -> None:
            self.context.cancel()

    transaction = Transaction(Context.background())
    if fixed:
        transaction.rollback()


@blocking("cockroach", 13755)
def cockroach_13755(fixed: bool) -> None:
    """The rows of a query are not closed, and the task that waits for the end of their context stays.

    Fixed: they are closed, which cancels the context.
    """

    class Rows:
        def __init__(self, context: Context) -> None:
            self.context = context.with_cancel()
            go(self.await_done)

        def await_done(self) -> None:
            self.context.done.recv_ok()
            self.close()

        def close(self) -> None:
            self.context.cancel()

    rows = Rows(Context.background())
    if fixed:
        rows.close()


@blocking("cockroach", 16167)
def cockroach_16167(fixed: bool) -> None:
    """A statement holds a condition's lock, which is the reading side of the configuration's, and takes that side again
    further down; a writer comes between.

    Fixed: further down the lock is known to be held.
    """
    config = RWMutex()
    changed = Condition(config.read())

    def database_cache() -> None:
        if not fixed:
            with config.read():
                pass

    def execute() -> None:
        with changed:
            database_cache()

    def update() -> None:
        with config.write():
            pass

    go(update)
    execute()


@blocking("cockroach", 18101)
def cockroach_18101(fixed: bool) -> None:
    """Cancelling stops the task that receives, and the one that sends to it is left with a full channel.

    Fixed: the sender watches the context too.
    """
    size = 6
    context = Context.background().with_cancel()

    def split_and_scatter(ready: Channel[bool]) -> None:
        with ready:
            for i in range(size + 2):
                if not fixed:
                    ready.send(i != 0)
                elif select(ready.sending(i != 0), context.done).index == 1:
                    return

    def restore() -> None:
        ready = Channel[bool](size)
        go(split_and_scatter, ready)
        for _ in ready:
            context.done.recv_ok()
            return

    go(restore)
    go(context.cancel)


@blocking("cockroach", 24808)
def cockroach_24808(fixed: bool) -> None:
    """The compactor wakes itself as it starts, and waits, since somebody has filled the wake-up channel before.

    Fixed: it leaves a wake-up that is there already.
    """
    stopping = Channel[None]()
    workers = WaitGroup()
    wake = Channel[None](1)

    def worker() -> None:
        while select(stopping, wake).index == 1:
            pass

    def start() -> None:
        if fixed:
            select(wake.sending(None), default=True)
        else:
            wake.send(None)
        workers.go(worker)

    with stopping:
        wake.send(None)
        start()


@blocking("cockroach", 25456)
def cockroach_25456(fixed: bool) -> None:
    """To find out whether the store quiesces the queue waits until it does.

    Fixed: it looks and goes on.
    """
    quiescing = Channel[None]()

    def process() -> None:
        if fixed:
            select(quiescing, default=True)
        else:
            quiescing.recv_ok()

    for _ in range(2):
        process()


@blocking("cockroach", 35073)
def cockroach_35073(fixed: bool) -> None:
    """An outbox fails as it starts, and those who push rows into it wait for room.

    Fixed: as it fails it says that it takes no more, and makes room for one who waits already.
    """

    class Outbox:
        def __init__(self) -> None:
            self.closed = False
            self.rows = Channel[int](16)

        def push(self) -> None:
            if not self.closed:
                self.rows.send(0)

        def run(self) -> None:
            if fixed:
                self.closed = True
                select(self.rows, default=True)

    outbox = Outbox()
    for _ in range(16):
        outbox.push()
    go(outbox.push)
    running = WaitGroup()
    running.go(outbox.run)
    running.wait()
    outbox.push()


@blocking("cockroach", 35931)
def cockroach_35931(fixed: bool) -> None:
    """A flow that is cancelled tells its inputs one after the other, and waits at a full one, while the reader would
    have to be told by the next.

    Fixed: each input is told in a task of its own.
    """
    registry = Mutex()
    left, right = Channel[str](1), Channel[str](1)
    inputs = {0: left, 1: right}

    def cancel() -> None:
        with registry:
            pending = list(inputs.values())
        for channel in pending:
            if fixed:
                go(channel.send, "cancelled")
            else:
                channel.send("cancelled")

    left.send("row")
    cancel()
    right.recv()
    left.recv()
    left.recv()
