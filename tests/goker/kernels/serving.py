"""A bug of Knative Serving.

The bug is one of GoBench's (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
The kernel is written anew for Penstock.
"""

from __future__ import annotations

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Mutex, WaitGroup, select


@blocking("serving", 2137)
def serving_2137(fixed: bool) -> None:
    """Requests are let go on one by one, each waited for, but the breaker lets in one alone, perhaps a later one.

    Fixed: all are let go on before the first is waited for.
    """
    pending, active = Channel[None](2), Channel[None](1)

    def limited(lock: Mutex) -> bool:
        if select(pending.sending(None), default=True) is None:
            return False
        active.send(None)
        with lock:
            pass
        active.recv()
        pending.recv()
        return True

    def request() -> tuple[Mutex, Channel[bool]]:
        lock, accepted = Mutex(), Channel[bool](1)
        lock.acquire()
        started = WaitGroup()
        started.add(1)

        def ask() -> None:
            started.done()
            accepted.send(limited(lock))

        go(ask)
        started.wait()
        return lock, accepted

    requests = [request(), request()]
    if fixed:
        for lock, _ in requests:
            lock.release()
    for lock, accepted in requests:
        if not fixed:
            lock.release()
        accepted.send(accepted.recv())
