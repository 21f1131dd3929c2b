"""The kernel: the only code of Penstock that locks, parks or wakes.

    native.h, parking.h   what the compiled kernel asks of the platform; interpreted.py is their twin
    waiters               who waits, for what, and the link between
    seam                  time, chance, waiting and threads, behind one interface that simulation replaces
    timers                one heap and one thread for all deadlines
    scopes                the tree of cancellation under the contexts
    operations            the course of a parked operation
    threads, loops        how a thread and an asyncio task sleep and are woken; the pool of threads
    channel, merging      channels; several as one
    selecting             select
    latch, locks          what is waited for once; mutexes, semaphores and conditions
    gauges, shards        what limits and maps are made of
    belt, conveyor        items and results of a bounded map, and those who wait for them
    simulation            other worlds behind the seam: simulated time, schedules under control
    inspection            what is parked, as seen from outside

Each module is one Python source. Where it has been compiled, its types are in the .pxd file beside it. With
PENSTOCK_INTERPRETED=1 in the environment, the sources are used even where compiled modules lie beside them; so they are
in subinterpreters, where a compiled kernel, which has one state in the process, cannot be loaded.

A class with subclasses above the kernel calls its own public methods as `GaugeCore.admit_now(self)`: compiled, a call
through `self` would first look for an override.
"""

from __future__ import annotations

import os


def _in_subinterpreter() -> bool:
    try:
        import _interpreters  # type: ignore[import-not-found]
    except ImportError:  # before Python 3.13
        return False
    return bool(_interpreters.get_current()[0] != _interpreters.get_main()[0])


if os.environ.get("PENSTOCK_INTERPRETED", "") not in ("", "0") or _in_subinterpreter():
    from penstock._kernel import sources

    sources.prefer(__name__, __path__)
