"""Bugs of Docker (moby) that block for ever, after the kernels of GoBench.

GoBench: Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021. Written anew for
Penstock from what is told there of each bug.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Condition, Mutex, Once, WaitGroup, after, current, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.001


def _either() -> bool:
    """True or False, as select chooses: what in the kernels is drawn by lot."""
    ready: Channel[None] = Channel()
    ready.close()
    return select(ready, ready).index == 0


@blocking("moby", 4395)
def moby_4395(fixed: bool) -> None:
    """A function's outcome is sent to a caller that need not be there to receive it. Fixed by a place for it in the
    channel.
    """

    def start(function: Callable[[], str]) -> Channel[str]:
        outcome: Channel[str] = Channel(1 if fixed else 0)
        go(lambda: outcome.send(function()))
        return outcome

    start(lambda: "failed")


class _Device:
    def __init__(self) -> None:
        self.lock = Mutex()


class _Devices:
    """A set of devices: a lock of its own, and one for each device."""

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.lock = Mutex()
        self.by_name = {"base": _Device(), "snapshot": _Device()}

    def delete(self, name: str) -> None:
        if self.fixed:
            with self.lock:
                device = self.by_name[name]
            with device.lock, self.lock:
                self.wait_until_removed()
        else:
            with self.lock:
                device = self.by_name[name]
                with device.lock:
                    self.wait_until_removed()

    def wait_until_removed(self) -> None:
        """Called with the set's lock held, which others get meanwhile."""
        self.lock.release()
        sleep(TICK)
        self.lock.acquire()


@blocking("moby", 4951)
def moby_4951(fixed: bool) -> None:
    """Whoever deletes a device takes the set's lock and then the device's, but lets go of the set's for a while and
    takes it again: another comes in between and waits for the device. Fixed by taking the device's lock first.
    """
    devices = _Devices(fixed)
    go(devices.delete, "base")
    go(devices.delete, "base")


@blocking("moby", 7559)
def moby_7559(fixed: bool) -> None:
    """A proxy that cannot reach its backend goes on to the next datagram with its table still locked. Fixed by
    unlocking on that path too.
    """
    lock = Mutex()
    connections: dict[int, str] = {}

    def dial() -> str | None:
        return None

    def run() -> None:
        for datagram in range(2):
            lock.acquire()
            connection = dial()
            if connection is None:
                if fixed:
                    lock.release()
                continue
            connections[datagram] = connection
            lock.release()

    go(run)


@blocking("moby", 17176)
def moby_17176(fixed: bool) -> None:
    """The cleaning up of deleted devices keeps the set's lock if there are none, and whoever wants the lock next waits
    for ever. Fixed by unlocking on that path too.
    """
    lock = Mutex()
    deleted: list[str] = []

    def clean_up() -> None:
        lock.acquire()
        if not deleted:
            if fixed:
                lock.release()
            return
        deleted.clear()
        lock.release()

    def use() -> None:
        with lock:
            done.send(None)

    clean_up()
    done: Channel[None] = Channel(1)
    go(use)
    select(after(TICK), done)


class _Transfer:
    """A transfer that one watcher reports on, to a channel that all transfers share."""

    def __init__(self, name: str, progress: Channel[tuple[str, int]]) -> None:
        self.name = name
        self.progress = progress
        self.lock = Mutex()
        self.released: Channel[None] = Channel()
        self.ended: Channel[None] = Channel()
        go(self.watch)

    def watch(self) -> None:
        with self.ended:
            with self.lock:
                overwritten = _either()
            if not overwritten:
                self.progress.send((self.name, 1))
            self.released.recv_ok()
            self.progress.send((self.name, 2))

    def release(self) -> None:
        with self.lock:
            self.released.close()
        self.ended.recv_ok()


@blocking("moby", 21233)
def moby_21233(fixed: bool) -> None:
    """A test that misses an update, which was overwritten by the next before it was sent, gives up reading: the
    transfers cannot send any more, and their owner waits for them. Fixed by reading on, since not all updates come.
    """

    def read() -> None:
        last = dict.fromkeys(names, 0)
        for name, update in progress:
            if update != last[name] + 1 and not fixed:
                return
            last[name] = update
        read_all.close()

    def transfer() -> None:
        go(read)
        transfers = [_Transfer(name, progress) for name in names]
        for each in transfers:
            each.release()
        progress.close()
        read_all.recv_ok()

    names = ["id1", "id2", "id3"]
    progress: Channel[tuple[str, int]] = Channel()
    read_all: Channel[None] = Channel()
    go(transfer)


@blocking("moby", 25384)
def moby_25384(fixed: bool) -> None:
    """Plugins are started one by one, but already after the first all of them are waited for. Fixed by waiting after
    the last.
    """

    def start_all(plugins: int) -> None:
        group = WaitGroup()
        group.add(plugins)
        for _ in range(plugins):
            go(group.done)
            if not fixed:
                group.wait()
        group.wait()

    go(start_all, 2)


class _FileWatcher:
    """Reports on a file until it is closed. What happens to the file comes from the operating system."""

    def __init__(self) -> None:
        self.events: Channel[str] = Channel()
        self.happened: Channel[str] = Channel(2)
        self.closed: Channel[None] = Channel()
        self.unwatched = Condition(Mutex())
        self.watching = True
        self.happened.send("modified")
        go(self.read)

    def read(self) -> None:
        with self.events:
            while (got := select(self.happened, self.closed)).ok:
                if got.value == "no longer watched":
                    with self.unwatched:
                        self.watching = False
                        self.unwatched.notify_all()
                    continue
                sleep(TICK)
                if not select(self.events.sending(got.value), self.closed).ok:
                    return

    def remove(self) -> None:
        with self.unwatched:
            self.happened.send("no longer watched")
            while self.watching:
                self.unwatched.wait()


@blocking("moby", 27782)
def moby_27782(fixed: bool) -> None:
    """The only reader of a file's events removes the watch on the file, and waits for the watcher, which cannot get rid
    of an event. Fixed by removing it in a task of its own, while the events are read on.
    """

    def follow() -> None:
        watcher = _FileWatcher()
        stop = no_more_logs
        if fixed:
            stop = Channel()

            def remove() -> None:
                no_more_logs.recv_ok()
                watcher.remove()
                stop.close()

            go(remove)
        sleep(TICK)
        while select(watcher.events, stop).ok:
            pass
        if not fixed:
            watcher.remove()
        watcher.closed.close()

    def log() -> None:
        go(follow)
        close_once.do(no_more_logs.close)

    no_more_logs: Channel[None] = Channel()
    close_once = Once()
    go(log)


@blocking("moby", 28462)
def moby_28462(fixed: bool) -> None:
    """A container's health monitor is told to stop, with a send, under the lock that its probe wants. Fixed by closing
    the channel, which waits for nobody.
    """
    container = Mutex()
    stop: Channel[None] = Channel()

    def monitor() -> None:
        while select(stop, default=True) is None:
            with container:
                pass  # The probe's result is noted.

    def change_state() -> None:
        with container:
            if fixed:
                stop.close()
            else:
                stop.send(None)

    go(monitor)
    go(change_state)


class _Plugin:
    def __init__(self) -> None:
        self.changed = Condition(Mutex())
        self.active = False
        self.error: str | None = None

    def activate(self) -> None:
        with self.changed:
            self.active = True
            self.changed.notify_all()

    def wait_until_active(self, *, or_failed: bool) -> None:
        with self.changed:
            while not (self.active or (or_failed and self.error is not None)):
                self.changed.wait()


def _check(plugin: _Plugin, *, or_failed: bool = False) -> None:
    """Wait in a task until the plugin is active, and for the task."""

    def wait() -> None:
        plugin.wait_until_active(or_failed=or_failed)
        done.close()

    done: Channel[None] = Channel()
    go(wait)
    done.recv_ok()


@blocking("moby", 29733)
def moby_29733(fixed: bool) -> None:
    """A new handler makes the plugins inactive, and nobody ever activates them again or notifies who waits for it.
    Fixed by activating them again.
    """
    handlers = Mutex()
    plugin = _Plugin()
    plugin.activate()
    _check(plugin)
    with handlers:
        plugin.active = False
        if fixed:
            go(plugin.activate)
    _check(plugin)


@blocking("moby", 30408)
def moby_30408(fixed: bool) -> None:
    """Whoever waits for a plugin to become active waits for ever if that failed. Fixed by looking at the error too."""
    plugin = _Plugin()
    plugin.error = "some junk happened"
    _check(plugin, or_failed=fixed)


@blocking("moby", 33293)
def moby_33293(fixed: bool) -> None:
    """A function sends its error on the channel that it is about to return, so nobody can receive it yet. Fixed by a
    place for it in the channel.
    """

    def wait_for_container() -> Channel[str]:
        errors: Channel[str] = Channel(1 if fixed else 0)
        if _either():
            errors.send("no such container")
        return errors

    go(wait_for_container)


@blocking("moby", 33781)
def moby_33781(fixed: bool) -> None:
    """A health monitor that is told to stop during a probe leaves without its result, and the probe cannot end. Fixed
    by a place for the result in the channel.
    """

    def monitor() -> None:
        while select(stop, after(TICK)).index == 1:
            results: Channel[bool] = Channel(1 if fixed else 0)
            context = current().with_timeout(TICK)

            def probe(results: Channel[bool] = results) -> None:
                sleep(TICK / 2)
                results.send(True)
                results.close()

            go(probe)
            got = select(stop, results, context.done)
            context.cancel()
            if got.index == 0:
                return
            if got.index == 2:
                results.recv()

    def tell() -> None:
        sleep(TICK)
        stop.send(True)

    stop: Channel[bool] = Channel()
    go(monitor)
    go(tell)


@blocking("moby", 36114)
def moby_36114(fixed: bool) -> None:
    """The virtual machine's disks are added under its lock, and those that fail are removed by a function that locks it
    again. Fixed by a form of it for those who hold the lock.
    """
    machine = Mutex()

    def remove_disks_locked() -> None:
        pass

    def remove_disks() -> None:
        with machine:
            remove_disks_locked()

    def add_disks() -> None:
        with machine:
            if fixed:
                remove_disks_locked()
            else:
                remove_disks()

    go(add_disks)
