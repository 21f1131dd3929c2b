"""Bugs of Hugo, a generator of web sites.

The bugs are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
The kernels are written anew for Penstock.
"""

from __future__ import annotations

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Context, Mutex, Once, RWMutex, WaitGroup, select, sleep


@blocking("hugo", 3251)
def hugo_3251(fixed: bool) -> None:
    """One waits for the lock of an address and holds the lock of the table; the other needs the table to release.

    Fixed: the table is released before the address is waited for.
    """
    table = RWMutex()
    locks: dict[str, Mutex] = {}

    def lock_address(address: str) -> None:
        with table.write():
            lock = locks.setdefault(address, Mutex())
            if not fixed:
                lock.acquire()
        if fixed:
            lock.acquire()

    def unlock_address(address: str) -> None:
        with table.read():
            locks[address].release()

    def load() -> None:
        for _ in range(2):
            lock_address("http://example.org")
            unlock_address("http://example.org")
            sleep(0.0002)

    loading = WaitGroup()
    for _ in range(4):
        loading.go(load)
    loading.wait()


@blocking("hugo", 5379)
def hugo_5379(fixed: bool) -> None:
    """A page is prepared under its lock; a shortcode on it asks for the page's word count, which takes the lock again.

    Fixed: a shortcode sees the page without its content, and makes nothing ready.
    """
    lock = Mutex()
    content, plain = Once(), Once()

    def word_count() -> None:
        content.do(prepare_in_time)
        plain.do(count_words)

    def count_words() -> None:
        with lock:
            pass

    def prepare_in_time() -> None:
        limit = Context.background().with_timeout(0.002)
        prepared = Channel[None](1)

        def prepare() -> None:
            with lock:
                if not fixed:
                    word_count()  # A shortcode.
                prepared.send(None)

        go(prepare)
        select(limit.done, prepared)
        limit.cancel()

    rendering = WaitGroup()
    for _ in range(2):
        rendering.go(word_count)
    rendering.wait()
