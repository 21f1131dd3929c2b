"""What must come first and need not: a wait group waited for before it is counted up, a result read before it is there,
a task that outlives what it uses.

After the kernels of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
Written anew for Penstock from what is told there of each bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import non_blocking

from penstock import Channel, Group, Mutex, WaitGroup, after, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.001


@non_blocking("cockroach", 4407)
def cockroach_4407(fixed: bool) -> None:
    """Workers are counted as they start, and one may start when the count, at zero, has been waited for already. Fixed
    by starting none any more once the stopper stops.
    """

    class Stopper:
        def __init__(self) -> None:
            self.lock = Mutex()
            self.workers = WaitGroup()
            self.stopping = self.stopped = False

        def start_worker(self, function: Callable[[], None]) -> None:
            with self.lock:
                if self.stopping and fixed:
                    return
                self.workers.add()

            def work() -> None:
                assert not self.stopped, "a worker outlives the stopper"
                function()
                self.workers.done()

            go(work)

        def stop(self) -> None:
            with self.lock:
                self.stopping = True
            self.workers.wait()
            self.stopped = True

    def gossip() -> None:
        with server:
            stopper.start_worker(send_gossip)

    def send_gossip() -> None:
        with server:
            pass

    server = Mutex()
    stopper = Stopper()
    for _ in range(2):
        go(gossip)
    sleep(TICK)
    stopper.stop()


@non_blocking("kubernetes", 13058)
def kubernetes_13058(fixed: bool) -> None:
    """A controller counts deletions down before the test has counted up how many there will be. Fixed by counting up
    before the controller starts.
    """
    threads = 3

    def control() -> None:
        for _ in range(threads):
            deletions.done()
            sleep(TICK)

    deletions = WaitGroup()
    tested = WaitGroup()
    with Group() as group:
        if fixed:
            deletions.add(threads)
        group.go(control)
        tested.add(threads)
        if not fixed:
            deletions.add(threads)
        for _ in range(threads):
            group.go(tested.done)
        tested.wait()
        deletions.wait()


@non_blocking("kubernetes", 49404)
def kubernetes_49404(fixed: bool) -> None:
    """A test looks whether its server's handler was called, without having waited for the connection's task. Fixed by
    waiting.
    """
    called = False

    def handle() -> None:
        nonlocal called
        called = True
        connections.done()

    def serve() -> None:
        connections.add()
        go(handle)
        serving.done()

    serving = WaitGroup()
    connections = WaitGroup()
    serving.add()
    go(serve)
    if fixed:
        serving.wait()
        connections.wait()
    assert called, "the backend was never called"


@non_blocking("moby", 18412)
def moby_18412(fixed: bool) -> None:
    """A command that takes too long is killed, and what it has written so far is taken while it still writes. Fixed by
    waiting for its end first.
    """
    written: list[str] = []

    def command() -> None:
        with finished:
            for line in ("first", "second"):
                if select(killed, default=True) is None:
                    written.append(line)
                    sleep(TICK)
            done.send(None)

    def run() -> list[str]:
        go(command)
        if select(after(TICK), done).index == 0:
            killed.close()
            if fixed:
                done.recv()
        return list(written)

    killed: Channel[None] = Channel()
    done: Channel[None] = Channel(1)
    finished: Channel[None] = Channel()
    output = run()
    finished.recv_ok()
    assert output == written, "the command has gone on writing"


@non_blocking("grpc", 3090)
def grpc_3090(fixed: bool) -> None:
    """A resolver reports while it is being built, and a task asks the wrapper for the resolver before it has been put
    there. Fixed by a lock that is held until it has.
    """

    class Resolver:
        def __init__(self, wrapper: Wrapper) -> None:
            wrapper.update()

        def resolve_now(self) -> None:
            pass

    class Wrapper:
        def __init__(self) -> None:
            self.lock = Mutex()
            self.polling = Mutex()
            self.resolver: Resolver | None = None
            if fixed:
                with self.lock:
                    self.resolver = Resolver(self)
            else:
                self.resolver = Resolver(self)

        def update(self) -> None:
            with self.polling:
                go(self.resolve_now)

        def resolve_now(self) -> None:
            with self.lock:
                self.resolver.resolve_now()

    go(Wrapper)


@dataclass
class _Timeouts:
    connect: float


@non_blocking("grpc", 1748)
def grpc_1748(fixed: bool) -> None:
    """A test sets a timeout that all connections use and puts the old one back when it ends, but the connections' tasks
    are still starting. Fixed by waiting for them first.
    """
    short, long = 0.1, 10.0
    timeouts = _Timeouts(long)

    def connect() -> None:
        assert timeouts.connect == short, "that is not the test's timeout"
        connecting.done()

    def balance() -> None:
        for _ in range(3):
            with lock:
                connecting.add()
                go(connect)
        connecting.done()

    def test() -> None:
        timeouts.connect = short
        connecting.add()
        go(balance)
        if fixed:
            connecting.wait()
        timeouts.connect = long
        tested.done()

    lock = Mutex()
    connecting = WaitGroup()
    tested = WaitGroup()
    tested.add()
    go(test)
    tested.wait()


@non_blocking("istio", 8144)
def istio_8144(fixed: bool) -> None:
    """A test counts what a cache evicts, and looks at the count when the evicting task ought to have come round. Fixed
    by having it told.
    """
    callbacks = 0

    def evict() -> None:
        nonlocal callbacks
        sleep(TICK)
        for _ in list(entries):
            callbacks += 1
        evicted.close()

    entries = {1: 1}
    evicted: Channel[None] = Channel()
    go(evict)
    if fixed:
        evicted.recv_ok()
    else:
        sleep(2 * TICK)
    assert callbacks == 1, "nothing was evicted"


@non_blocking("serving", 3148)
def serving_3148(fixed: bool) -> None:
    """A test adds its hook to the client when the controller that uses the client runs already. Fixed by adding it
    before.
    """
    reactions: list[Callable[[], None]] = []
    created: list[str] = []

    def reconcile() -> None:
        for react in reactions:
            react()

    def run_controller() -> None:
        workers = WaitGroup()
        workers.go(reconcile)
        workers.wait()

    def hook() -> None:
        reactions.insert(0, lambda: created.append("autoscaler"))

    if fixed:
        hook()
    controller = WaitGroup()
    controller.go(run_controller)
    if not fixed:
        hook()
    controller.wait()
    assert created, "the hook was never called"


class _TestLog:
    """A test's log, which nobody may write to when the test has ended."""

    def __init__(self) -> None:
        self.ended = False

    def write(self, line: str) -> None:
        if self.ended:
            raise RuntimeError(f"logged after the test has ended: {line}")


def _run_test(body: Callable[[_TestLog], None]) -> None:
    """Run a test in a task, and wait for it."""

    def run() -> None:
        log = _TestLog()
        body(log)
        log.ended = True
        ran.close()

    ran: Channel[None] = Channel()
    go(run)
    ran.recv_ok()


@non_blocking("serving", 4908)
def serving_4908(fixed: bool) -> None:
    """A test waits for the watcher that it runs, but not for the task in which the watcher checks, and which logs.
    Fixed by the watcher's waiting for it.
    """

    def test(log: _TestLog) -> None:
        def check() -> None:
            log.write("checked")
            checked.done()

        def watch() -> None:
            checked.add()
            go(check)
            if fixed:
                checked.wait()
            watched.done()

        checked = WaitGroup()
        watched = WaitGroup()
        watched.add()
        go(watch)
        watched.wait()

    _run_test(test)


@non_blocking("serving", 6171)
def serving_6171(fixed: bool) -> None:
    """A test ends while the watchers that it made are still at work, and log. Fixed by waiting for them, and for what
    they start.
    """

    def test(log: _TestLog) -> None:
        def check() -> None:
            log.write("checked")
            working.done()

        def watch() -> None:
            working.add()
            go(check)
            working.done()

        working = WaitGroup()
        working.add()
        go(watch)
        if fixed:
            working.wait()

    _run_test(test)


@non_blocking("serving", 6472)
def serving_6472(fixed: bool) -> None:
    """Probes are queued before they are counted, and a worker counts one down that has not been counted yet. Fixed by
    counting them first.
    """

    @dataclass
    class Ingress:
        pending: int = 0

    def take() -> Ingress | None:
        with lock:
            return queue.pop(0) if queue else None

    def work() -> None:
        ingress = take()
        if ingress is not None:
            ingress.pending -= 1
            assert ingress.pending >= 0, "probed before it was counted"

    def probe() -> None:
        ingress = Ingress()
        if fixed:
            ingress.pending += 1
        with lock:
            queue.append(ingress)
        if not fixed:
            ingress.pending += 1

    lock = Mutex()
    queue: list[Ingress] = []
    workers = WaitGroup()
    for _ in range(2):
        workers.go(work)
    probe()
    workers.wait()
