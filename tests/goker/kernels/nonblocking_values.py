"""Values that tasks read and write without a lock: updates that are lost, pairs that do not belong together, settings
that change while they are looked at.

After the kernels of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
Written anew for Penstock from what is told there of each bug. A race that Go's race detector sees is here one that
somebody else would see, too.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field

from kernels.goroutines import go
from kernels.races import in_tasks, lock_if, parallel
from kernels.registry import non_blocking

from penstock import Channel, Mutex, Once, WaitGroup, after, select

TICK = 0.001


@non_blocking("etcd", 4876, lines=True)
def etcd_4876(fixed: bool) -> None:
    """A test changes the interval of progress reports while a watch's task, which nobody waits for, makes its ticker
    of it. Fixed by a lock.
    """

    @dataclass
    class Interval:
        amount: int = 10
        unit: float = 1.0

    def send_loop() -> None:
        with lock:
            seconds = interval.amount
            seconds *= interval.unit
        assert seconds in {10.0, 0.5}, "half of the old interval and half of the new"

    def watch() -> None:
        go(send_loop)

    def test() -> None:
        with lock:
            interval.amount = 500
            interval.unit = 0.001

    lock = lock_if(fixed)
    interval = Interval()
    in_tasks(test, watch)


@non_blocking("etcd", 8194, lines=True)
def etcd_8194(fixed: bool) -> None:
    """A lessor limits how many leases it revokes by a rate that another test changes for a while. Fixed by a rate of
    the lessor's own.
    """

    @dataclass
    class Settings:
        rate: int = 1000

    def revoke(settings: Settings) -> None:
        for _ in range(2):
            leases = list(range(6))
            revoked = leases[: settings.rate // 2]
            assert revoked == leases, "that is the other test's rate"
            if select(stop, after(TICK)).index == 0:
                return

    def grant() -> None:
        go(revoke, Settings() if fixed else settings)

    def pile_up() -> None:
        settings.rate = 10
        settings.rate = 1000

    stop: Channel[None] = Channel()
    settings = Settings()
    in_tasks(grant, pile_up)


@non_blocking("istio", 8214, lines=True)
def istio_8214(fixed: bool) -> None:
    """A cache's counters are each counted up atomically, but copied all together without a lock. Fixed by copying them
    under it.
    """

    @dataclass
    class Statistics:
        writes: int = 0
        entries: int = 0

    def check() -> None:
        with counting:
            statistics.writes += 1
            statistics.entries += 1
        with counting if fixed else nullcontext():
            writes = statistics.writes
            entries = statistics.entries
        assert writes == entries, "the copy is of no one moment"

    counting = Mutex()
    statistics = Statistics()
    in_tasks(check, check)


@non_blocking("kubernetes", 70892, lines=True)
def kubernetes_70892(fixed: bool) -> None:
    """Two workers score a node each, and each replaces the list that all scores are in. Fixed by storing the node's
    score alone.
    """
    scores = [[0, 0] for _ in range(3)]

    def score(node: int) -> None:
        for priority in range(len(scores)):
            if fixed:
                scores[priority][node] = 7
            else:
                row = list(scores[priority])
                row[node] = 7
                scores[priority] = row

    parallel(2, 2, score)
    assert scores == [[7, 7]] * 3, "scores are lost"


@non_blocking("kubernetes", 80284, lines=True)
def kubernetes_80284(fixed: bool) -> None:
    """Each transport that an authenticator configures takes the place of the one before as that whose connections are
    closed when the certificate rotates. Fixed by one dialer for all, made with the authenticator.
    """

    @dataclass
    class Dialer:
        connections: list[str] = field(default_factory=list)

    class Authenticator:
        def __init__(self) -> None:
            self.dialer: Dialer | None = Dialer() if fixed else None

        def configure(self) -> None:
            if self.dialer is None:
                self.dialer = Dialer()
            self.dialer.connections.append("open")

        def rotate(self) -> int:
            return len(self.dialer.connections)

    authenticator = Authenticator()
    transports = WaitGroup()
    for _ in range(2):
        transports.go(authenticator.configure)
    transports.wait()
    assert authenticator.rotate() == 2, "a connection is never closed"


@non_blocking("kubernetes", 81091, lines=True)
def kubernetes_81091(fixed: bool) -> None:
    """A plugin counts how often it is called, by several workers at once. Fixed by a lock."""

    class Plugin:
        def __init__(self) -> None:
            self.lock = lock_if(fixed)
            self.calls = 0

        def filter(self, _node: int) -> None:
            with self.lock:
                calls = self.calls
                self.calls = calls + 1

    def schedule() -> None:
        parallel(2, 2, plugin.filter)

    plugin = Plugin()
    in_tasks(schedule)
    assert plugin.calls == 2, "a call is not counted"


@non_blocking("kubernetes", 81148, lines=True)
def kubernetes_81148(fixed: bool) -> None:
    """A test puts back the time at which a pod was queued, without the lock under which the queue's task reads it.
    Fixed by taking it.
    """

    @dataclass
    class Pod:
        queued: int

    def flush() -> None:
        with lock:
            before = [pod.queued for pod in pods.values()]
            waiting = [100 - queued for queued in before]
            due = [seconds for seconds in waiting if seconds >= 60]
            after_that = [pod.queued for pod in pods.values()]
            assert before == after_that, f"{due} looked at and changed under the lock"
        stop.recv_ok()

    def test() -> None:
        go(flush)
        with lock:
            pods["high"] = Pod(queued=100)
        with lock if fixed else nullcontext():
            pods["high"].queued -= 60

    lock = Mutex()
    stop: Channel[None] = Channel()
    pods: dict[str, Pod] = {}
    in_tasks(test)
    stop.close()


@non_blocking("kubernetes", 82550, lines=True)
def kubernetes_82550(fixed: bool) -> None:
    """A provider is made when it is first asked for, and made again by whoever asks at the same time. Fixed by making
    it once.
    """

    class Lazy:
        def __init__(self) -> None:
            self.once = Once()
            self.provider: object | None = None
            self.made = 0

        def provide(self) -> None:
            if fixed:
                self.once.do(self.make)
            elif self.provider is None:
                self.make()

        def make(self) -> None:
            assert self.provider is None, "the provider is made twice"
            self.provider = object()

    lazy = Lazy()
    for _ in range(3):
        go(lazy.provide)
