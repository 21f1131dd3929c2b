"""Bugs of CockroachDB, up to its issue 9935.

The kernels are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO
2021), written anew for Penstock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Mutex, RWMutex, WaitGroup, select

if TYPE_CHECKING:
    from collections.abc import Callable


@blocking("cockroach", 584)
def cockroach_584(fixed: bool) -> None:
    """A loop that finds the gossip closed leaves with the mutex locked, and the next loop waits for it.

    Fixed: it unlocks before it leaves.
    """
    mutex = Mutex()
    closed = True

    def loop() -> None:
        while True:
            mutex.acquire()
            if closed:
                if fixed:
                    mutex.release()
                break
            mutex.release()

    def bootstrap_and_manage() -> None:
        loop()
        loop()

    go(bootstrap_and_manage)


@blocking("cockroach", 1055)
def cockroach_1055(fixed: bool) -> None:
    """`stop` waits for the workers with the mutex locked, and a worker that is about to begin its task waits for the
    mutex.

    Fixed: it unlocks before it waits.
    """

    class Stopper:
        def __init__(self) -> None:
            self.mutex = Mutex()
            self.draining = False
            self.tasks = WaitGroup()
            self.workers = WaitGroup()
            self.stopped = Channel[None]()

        def start_task(self) -> bool:
            if self.draining:
                return False
            with self.mutex:
                self.tasks.add()
            return True

        def quiesce(self) -> None:
            with self.mutex:
                self.draining = True
                self.tasks.wait()
                self.draining = False

        def stop(self) -> None:
            with self.mutex:
                self.draining = True
                self.tasks.wait()
                self.stopped.close()
                if not fixed:
                    self.workers.wait()
            self.workers.wait()

    def worker(stopper: Stopper) -> None:
        if stopper.start_task():
            stopper.tasks.done()
        stopper.stopped.recv_ok()
        stopper.workers.done()

    stoppers = [Stopper() for _ in range(3)]
    for stopper in stoppers:
        stopper.workers.add()
        go(worker, stopper)

    done = Channel[None]()

    def stop_all() -> None:
        for stopper in stoppers:
            stopper.quiesce()
        for stopper in stoppers:
            stopper.stop()
        done.close()

    go(stop_all)
    done.recv_ok()


@blocking("cockroach", 1462)
def cockroach_1462(fixed: bool) -> None:
    """A transport looks whether to stop, and then sends an event that nobody receives any more, since the receiver has
    stopped.

    Fixed: it sends or stops, in one select.
    """
    mutex = Mutex()
    stopping = Channel[None]()
    stopped = Channel[None]()
    workers = WaitGroup()
    events = Channel[int]()

    def transport() -> None:
        for event in range(5):
            if fixed:
                if select(stopping, events.sending(event)).index == 0:
                    return
            elif select(stopping, default=True) is None:
                events.send(event)
            else:
                return

    def process_events() -> None:
        while select(events, stopping).index == 0:
            pass

    def stop() -> None:
        with mutex:
            pass  # there are no tasks to wait for
        stopping.close()
        workers.wait()
        with mutex:
            stopped.close()

    workers.go(transport)
    workers.go(process_events)
    stop()


@blocking("cockroach", 2448)
def cockroach_2448(fixed: bool) -> None:
    """The raft sends a second event while the store, busy with the first, sends the raft a callback: each waits for the
    other to receive.

    Fixed: the raft receives callbacks while it has an event to send.
    """
    stopping = Channel[None]()
    events: Channel[Callable[[], None]] = Channel()
    callbacks: Channel[Callable[[], None]] = Channel()
    applied: list[str] = []

    def membership_changed() -> None:
        select(callbacks.sending(lambda: applied.append("change")), stopping)

    def store() -> None:
        while (got := select(events, stopping)).ok:
            got.value()

    def raft() -> None:
        unsent = 2
        while len(applied) < 2:
            if fixed or not unsent:
                got = select(callbacks, events.sending(membership_changed) if unsent else None)
            else:
                got = select(callbacks, default=True) or select(events.sending(membership_changed), stopping)
            if got.channel is callbacks:
                got.value()
            else:
                unsent -= 1
        stopping.close()

    go(store)
    go(raft)


@blocking("cockroach", 3710)
def cockroach_3710(fixed: bool) -> None:
    """A scan holds the store's lock for reading and asks for it again further down; a writer that comes between waits
    for the first and holds up the second.

    Fixed: the scan copies what it goes through, and unlocks.
    """
    store = RWMutex()
    queue = Mutex()
    replicas = ["first", "second"]

    def raft_status() -> None:
        with store.read():
            pass

    def scan() -> None:
        store.acquire_read()
        scanned = list(replicas)
        if fixed:
            store.release_read()
        for _ in scanned:
            with queue:
                raft_status()
        if not fixed:
            store.release_read()

    def process() -> None:
        with store.write():
            replicas.copy()

    go(scan)
    go(process)


@blocking("cockroach", 6181)
def cockroach_6181(fixed: bool) -> None:
    """A lookup logs the cache while it holds the lock for reading, and the cache's text takes the lock for reading too;
    another lookup comes between to write.

    Fixed: the text for the log is made without the lock.
    """
    lock = RWMutex()

    def text() -> str:
        if fixed:
            return "cache"
        with lock.read():
            return "cache"

    def lookup() -> None:
        with lock.read():
            text()
        with lock.write():
            pass

    def lookups() -> None:
        running = WaitGroup()
        for _ in range(3):
            running.go(lookup)
        running.wait()

    go(lookups)


@blocking("cockroach", 7504)
def cockroach_7504(fixed: bool) -> None:
    """Acquiring a lease locks the cache of names and then the lease, releasing it locks them the other way round.

    Fixed: the cache is unlocked before the lease is locked.
    """
    table = Mutex()
    cache = Mutex()
    leases = [Mutex(), Mutex()]
    cached = dict(enumerate(leases))

    def acquire_by_name() -> None:
        cache.acquire()
        lease = cached.get(0)
        if fixed:
            cache.release()
        if lease is not None:
            with lease:
                pass
        if not fixed:
            cache.release()

    def release() -> None:
        with table, leases[0], cache:
            cached.pop(0, None)

    running = WaitGroup()
    running.go(acquire_by_name)
    running.go(release)
    running.wait()


@blocking("cockroach", 9935)
def cockroach_9935(fixed: bool) -> None:
    """The logger cannot create its file and gives up, which locks the mutex that it holds already.

    Fixed: it unlocks first.
    """
    mutex = Mutex()

    def create_file() -> None:
        raise OSError("no space left")

    def give_up() -> None:
        with mutex:
            pass

    def output() -> None:
        mutex.acquire()
        try:
            create_file()
        except OSError:
            if fixed:
                mutex.release()
            give_up()
        if not fixed:
            mutex.release()

    go(output)
