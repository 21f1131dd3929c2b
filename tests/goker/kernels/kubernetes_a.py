"""Bugs of Kubernetes, the earlier ones.

The bugs are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
The kernels are written anew for Penstock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Condition, Mutex, Once, RWMutex, WaitGroup, after, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable


class _Watcher:
    def __init__(self) -> None:
        self.result = Channel[None]()
        self.stopped = Channel[None]()


@blocking("kubernetes", 1321)
def kubernetes_1321(fixed: bool) -> None:
    """A distributor sends to a watcher with its lock held, and a watcher that wants no more needs the lock to stop.

    Fixed: the watcher closes a second channel first, and the distributor looks at both.
    """
    lock, registering = Mutex(), Mutex()
    watchers: dict[int, _Watcher] = {}

    def distribute() -> None:
        for _ in range(3):
            with lock, registering:
                for watcher in watchers.values():
                    if fixed:
                        select(watcher.result.sending(None), watcher.stopped)
                    else:
                        watcher.result.send(None)

    def watch() -> int:
        watcher = _Watcher()
        with registering:
            number = len(watchers)
            watchers[number] = watcher
        return number

    def stop(number: int) -> None:
        if fixed:
            watchers[number].stopped.close()
        with lock:
            watchers.pop(number).result.close()

    def watch_and_stop() -> None:
        go(distribute)
        stop(watch())

    go(watch_and_stop)


@blocking("kubernetes", 5316)
def kubernetes_5316(fixed: bool) -> None:
    """A request outlasts the patience of whoever waits for it, and its outcome finds nobody to take it.

    Fixed: either kind of outcome has a place to lie in.
    """

    def finish(request: Callable[[], bool], patience: float) -> None:
        result, error = Channel[bool](1 if fixed else 0), Channel[str](1 if fixed else 0)

        def run() -> None:
            if request():
                result.send(True)
            else:
                error.send("refused")

        go(run)
        select(result, error, after(patience))

    def request() -> bool:
        sleep(0.002)
        return True

    go(finish, request, 0.001)


@blocking("kubernetes", 6632)
def kubernetes_6632(fixed: bool) -> None:
    """A frame is written, and says so on a channel, with the lock held that is needed to close the channel.

    Fixed: whoever is about to close the channel has it emptied until then.
    """
    lock = Mutex()
    closing, written = Channel[bool](), Channel[bool]()
    writing_is_watched = True

    def drain() -> None:
        for _ in written:
            pass

    def monitor() -> None:
        nonlocal writing_is_watched
        closing.recv()
        if fixed:
            go(drain)
        with lock:
            written.close()
            writing_is_watched = False

    def write_frame() -> None:
        with lock:
            if writing_is_watched:
                written.send(True)

    go(closing.send, True)
    go(monitor)
    go(write_frame)


@blocking("kubernetes", 10182)
def kubernetes_10182(fixed: bool) -> None:
    """A status is sent with the lock held that its receiver takes between one status and the next.

    Fixed: it is sent after the lock has been released.
    """
    lock = RWMutex()
    statuses = Channel[bool]()

    def synchronise() -> None:
        for _ in range(2):
            statuses.recv()
            with lock.write():  # The status is deleted.
                pass

    def start() -> None:
        go(synchronise)

    def set_status() -> None:
        with lock.write():
            if not fixed:
                statuses.send(True)
        if fixed:
            statuses.send(True)

    go(start)
    go(set_status)
    go(set_status)


def _run(function: Callable[[], None]) -> Channel[None]:
    """Start the function; the channel is closed at its end."""
    done = Channel[None]()

    def run() -> None:
        with done:
            function()

    go(run)
    return done


@blocking("kubernetes", 11298)
def kubernetes_11298(fixed: bool) -> None:
    """A loop has another task wait on a condition in its stead, and notifies it to end, perhaps before it waits.

    Fixed: a notification that nobody waits for yet is kept.
    """
    lock = Mutex()
    condition = Condition(lock)
    kept = Channel[None](1)

    def notify() -> None:
        if fixed:
            select(kept.sending(None), default=True)
        else:
            condition.notify()

    def wait() -> None:
        if fixed:
            lock.release()
            kept.recv()
            lock.acquire()
        else:
            condition.wait()

    def serve(finished: Channel[None]) -> None:
        lock.acquire()
        while select(finished, default=True) is None:
            notified = _run(wait)  # It releases the lock, which is not its own, and takes it again at the end.
            if select(finished, notified).index == 0:
                notify()
                notified.recv_ok()
                break
        lock.release()

    def notify_until(abort: Channel[None]) -> None:
        for _ in range(3):
            if select(abort, default=True) is not None:
                return
            with lock:
                notify()
        abort.recv_ok()

    def run(abort: Channel[None]) -> None:
        serve(_run(lambda: notify_until(abort)))

    def abort_soon(abort: Channel[None]) -> None:
        with abort:
            sleep(0.001)

    abort = Channel[None]()
    ended = _run(lambda: run(abort))
    go(abort_soon, abort)
    ended.recv_ok()


@blocking("kubernetes", 13135)
def kubernetes_13135(fixed: bool) -> None:
    """Filling a cache takes the cacher's lock, then its store's; an event comes to the store first, then to the cacher.

    Fixed: filling takes the cacher's lock inside the store's as well.
    """
    cacher, store = Mutex(), RWMutex()
    filled, first_time = WaitGroup(), Once()
    stop = Channel[None]()

    def fill() -> None:
        if not fixed:
            cacher.acquire()
        with store.write():
            if fixed:
                cacher.acquire()
            first_time.do(filled.done)
            cacher.release()

    def keep_filling() -> None:
        for _ in range(3):
            if select(stop, default=True) is not None:
                return
            fill()
            sleep(0.0001)

    def add_event() -> None:
        with store.write(), cacher:
            pass

    filled.add(1)
    go(keep_filling)
    filled.wait()
    go(add_event)
    go(stop.close)
