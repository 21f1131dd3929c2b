"""Lists and dicts that one task changes while another goes through them or has just looked into them.

After the kernels of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
Written anew for Penstock from what is told there of each bug.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.races import in_tasks, lock_if
from kernels.registry import non_blocking

from penstock import Channel, RWMutex, WaitGroup, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.001


def _until(stop: Channel[None], function: Callable[[], None]) -> None:
    """Call the function, and wait to be stopped."""
    if select(stop, default=True) is None:
        function()
        stop.recv_ok()


@non_blocking("etcd", 9446, lines=True)
def etcd_9446(fixed: bool) -> None:
    """A read transaction's buffer is emptied while it is read. Fixed by a lock."""

    class Buffer:
        def __init__(self) -> None:
            self.lock = lock_if(fixed)
            self.buckets = {"1": "value"}

        def reset(self) -> None:
            with self.lock:
                for key in list(self.buckets):
                    del self.buckets[key]

        def read(self) -> None:
            with self.lock:
                for key in self.buckets:
                    assert self.buckets[key] == "value"

    buffer = Buffer()
    in_tasks(buffer.reset, buffer.read)


@non_blocking("istio", 16742, lines=True)
def istio_16742(fixed: bool) -> None:
    """A workload's labels are dropped, under a lock, while a route is built from them without it. Fixed by taking it
    there too.
    """

    class Connection:
        labels: tuple[str, ...] | None = ("app",)

    def stream() -> None:
        connection = Connection()
        with lock.write():
            connections.append(connection)
        with lock.read() if fixed else nullcontext():
            if connection.labels is not None:
                assert [*connection.labels] == ["app"]

    def update() -> None:
        with lock.write():
            for connection in connections:
                connection.labels = None

    lock = RWMutex()
    connections: list[Connection] = []
    in_tasks(stream, update)


class _Cacher:
    """Dispatches each event to all watchers, by a list that it uses over and over."""

    def __init__(self) -> None:
        self.lock = RWMutex()
        self.watchers = ["first", "second"]
        self.to_tell: list[str] = []

    def start(self) -> None:
        with self.lock.write():
            self.to_tell.clear()
            self.to_tell.extend(self.watchers)

    def dispatch(self) -> None:
        """Called by several tasks at once, which have one list."""
        self.start()
        told = []
        for watcher in self.to_tell:
            told.append(watcher)  # noqa: PERF402  one by one
        assert told == self.watchers, "not every watcher is told once"

    def dispatch_copied(self) -> None:
        with self.lock.read():
            to_tell = list(self.watchers)
        assert to_tell == self.watchers


@non_blocking("kubernetes", 77796, lines=True)
def kubernetes_77796(fixed: bool) -> None:
    """A cache's list of the watchers to tell is filled anew, under a lock, by one task while another goes through it.
    Fixed by a list for each event.
    """
    cacher = _Cacher()
    dispatch = cacher.dispatch_copied if fixed else cacher.dispatch
    go(dispatch)
    for _ in range(3):
        go(dispatch)
        sleep(TICK)


@non_blocking("kubernetes", 89164, lines=True)
def kubernetes_89164(fixed: bool) -> None:
    """As kubernetes 77796, where each event is waited for but the first. Fixed by dispatching one event at a time."""

    def dispatch() -> None:
        with dispatching:
            cacher.dispatch()

    cacher = _Cacher()
    dispatching = lock_if(fixed)
    go(dispatch)
    for _ in range(3):
        dispatched = WaitGroup()
        dispatched.go(dispatch)
        dispatched.wait()


@non_blocking("kubernetes", 79631, lines=True)
def kubernetes_79631(fixed: bool) -> None:
    """A pod is looked up without the lock under which the queue's task takes pods out. Fixed by taking it."""

    def flush() -> None:
        with lock.write():
            del pods["1"]

    def look_up() -> str | None:
        with lock.read() if fixed else nullcontext():
            if "1" in pods:
                return pods["1"]
        return None

    lock = RWMutex()
    pods = {"1": "pod"}
    stop: Channel[None] = Channel()
    go(_until, stop, flush)
    with stop:
        look_up()


@non_blocking("kubernetes", 88331, lines=True)
def kubernetes_88331(fixed: bool) -> None:
    """A queue is looked into without the lock under which the queue's task takes pods out. Fixed by taking it."""

    def flush() -> None:
        with lock.write():
            pods.pop()

    def last() -> str | None:
        with lock.read() if fixed else nullcontext():
            if len(pods) > 0:
                return pods[-1]
        return None

    lock = RWMutex()
    pods = ["pod"]
    stop: Channel[None] = Channel()
    go(_until, stop, flush)
    with stop:
        last()


@non_blocking("kubernetes", 82239, lines=True)
def kubernetes_82239(fixed: bool) -> None:
    """A test adds to a volume's annotations while the controller copies the volume. Fixed by a lock."""
    annotations = {"0": "", "1": ""}

    def copy() -> None:
        copied = {}
        with lock:
            for key, value in annotations.items():
                copied[key] = value  # noqa: PERF403  one by one

    def run() -> None:
        go(_until, stop, copy)

    lock = lock_if(fixed)
    stop: Channel[None] = Channel()
    go(run)
    sleep(TICK)
    with lock:
        annotations["2"] = ""
    stop.close()
