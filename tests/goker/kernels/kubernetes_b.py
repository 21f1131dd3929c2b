"""Bugs of Kubernetes, the later ones.

The bugs are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
The kernels are written anew for Penstock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Condition, Context, Mutex, RWMutex, Ticker, Timer, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable


@blocking("kubernetes", 25331)
def kubernetes_25331(fixed: bool) -> None:
    """A watch that is stopped because of an error reports the error first, and nobody takes reports any more.

    Fixed: the report is given up when the watch's context ends.
    """
    context = Context.background().with_cancel()
    results, errors = Channel[str](), Channel[str]()

    def run() -> None:
        chosen = select(errors, context.done)
        if chosen.index == 1:
            return
        if fixed:
            select(results.sending(chosen.value), context.done)
        else:
            context.cancel()
            results.send(chosen.value)

    def stop() -> None:
        errors.send("broken")
        context.cancel()

    go(run)
    go(stop)


@blocking("kubernetes", 26980)
def kubernetes_26980(fixed: bool) -> None:
    """A listener that has a notification to deliver waits, with its lock held, until it is stopped.

    Fixed: it releases the lock before it waits.
    """
    lock = RWMutex()
    condition = Condition(lock.write())
    notifications: list[int] = []
    stop, locked = Channel[None](), Channel[None]()

    def add(notification: int) -> None:
        with lock.write():
            notifications.append(notification)
            condition.notify_all()

    def deliver() -> None:
        with lock.write():
            while not notifications:
                if stop.closed:
                    return
                condition.wait()
            if not fixed:
                stop.recv_ok()
        if fixed:
            stop.recv_ok()

    def take_lock() -> None:
        lock.acquire_write()
        locked.close()

    add(1)
    go(deliver)
    go(take_lock)
    locked.recv_ok()
    lock.release_write()
    stop.close()


@blocking("kubernetes", 30872)
def kubernetes_30872(fixed: bool) -> None:
    """Asking an informer takes its lock, then its queue's; an item comes out of the queue first, then to the informer.

    Fixed: asking releases the informer's lock before it turns to the queue.
    """
    informer, queue = Mutex(), RWMutex()
    stopped, stop = Channel[None](), Channel[None]()

    def process() -> None:
        for _ in range(3):
            if select(stopped, default=True) is not None:
                return
            with queue.write(), informer:  # An item leaves the queue, and is added.
                pass

    def ask_whether_synced() -> None:
        with informer:
            if not fixed:
                with queue.write():
                    pass
        if fixed:
            with queue.write():
                pass

    def stop_processing() -> None:
        stop.recv_ok()
        with informer:
            stopped.close()

    with informer:
        go(process)
    go(stop_processing)
    go(ask_whether_synced)
    stop.close()


@blocking("kubernetes", 38669)
def kubernetes_38669(fixed: bool) -> None:
    """A watcher is stopped, but is still sending what there was at the start, to nobody.

    Fixed: there is room for what there was at the start.
    """
    lock = Mutex()
    events = Channel[int]()
    first = [1, 2]
    results = Channel[int](len(first) if fixed else 0)

    def process() -> None:
        for event in first:
            results.send(event)
        for _ in events:
            pass
        stop()
        results.close()

    def stop() -> None:
        with lock:
            events.close()

    go(process)
    stop()


class _Queue:
    """Values that are taken one by one; whoever finds none waits."""

    def __init__(self) -> None:
        self._values: list[str] = []
        self._added = Condition(Mutex())

    def put(self, value: str) -> None:
        with self._added:
            self._values.append(value)
            self._added.notify()

    def get(self) -> str:
        with self._added:
            while not self._values:
                self._added.wait()
            return self._values.pop()


@blocking("kubernetes", 58107)
def kubernetes_58107(fixed: bool) -> None:
    """A worker without work keeps the lock, for reading; a writer waits for it, and behind that the bringer of work.

    Fixed: the lock is taken when there is work.
    """
    lock = RWMutex()
    quotas, missing = _Queue(), _Queue()

    def work(queue: _Queue, handle: Callable[[str], None]) -> None:
        if fixed:
            value = queue.get()
            with lock.read():
                handle(value)
        else:
            with lock.read():
                handle(queue.get())

    def synchronise() -> None:
        for _ in range(3):
            with lock.write():
                sleep(0.0001)

    go(work, quotas, len)
    go(work, missing, quotas.put)
    go(synchronise)
    missing.put("quota")


@blocking("kubernetes", 62464)
def kubernetes_62464(fixed: bool) -> None:
    """A reader takes the lock for reading once more, and a writer has come in between.

    Fixed: what is called with the lock held does not take it.
    """
    lock = RWMutex()
    processors: dict[str, set[int]] = {"": {0, 1}}

    def find(container: str) -> set[int] | None:
        if fixed:
            return processors.get(container)
        with lock.read():
            return processors.get(container)

    def reconcile() -> None:
        with lock.read():
            find("gone") or find("")

    def remove_container() -> None:
        with lock.read():
            rest = processors[""]
        with lock.write():
            processors[""] = rest | {2}

    go(reconcile)
    go(remove_container)


@blocking("kubernetes", 70277)
def kubernetes_70277(fixed: bool) -> None:
    """Waiting for a condition is over, but whoever polls for it is told so by the caller's channel alone, too late.

    Fixed: a channel of its own tells the poller, closed when the waiting is over.
    """

    def poll(interval: float, limit: float, done: Channel[None]) -> Channel[None]:
        polls = Channel[None]()

        def run() -> None:
            ticker, timer = Ticker(interval), Timer(limit)
            with polls:
                while select(done, timer.channel, ticker.channel).index == 2:
                    select(polls.sending(None), default=True)
            ticker.stop()
            timer.stop()

        go(run)
        return polls

    def wait_for(condition: Callable[[], bool], done: Channel[None]) -> Channel[None]:
        """Give the channel that the poller was told to look at."""
        over = Channel[None]() if fixed else done
        polls = poll(0.0005, 0.002, over)
        while polls.recv_ok()[1] and not condition():
            pass
        if fixed:
            over.close()
        return over

    with Channel[None]() as stop:
        wait_for(lambda: True, stop).recv_ok()
