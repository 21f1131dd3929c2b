"""What watching the order of locks costs: python benchmarks/lock_order.py"""

from __future__ import annotations

import threading
import time
import timeit

from penstock import Mutex, RWMutex
from penstock.deadlock import lock_order

NUMBER = 20_000
STATEMENTS = {
    "with mutex": "with one: pass",
    "with two mutexes": "with one, other: pass",
    "with rw.read()": "with rw.read(): pass",
    "with threading.Lock()": "with plain: pass",
}


def measure() -> dict[str, float]:
    """Nanoseconds of processor time for each statement, the best of several runs."""
    names = {"one": Mutex(), "other": Mutex(), "rw": RWMutex(), "plain": threading.Lock()}
    return {
        what: min(timeit.repeat(statement, timer=time.process_time, globals=names, number=NUMBER, repeat=9))
        / NUMBER
        * 1e9
        for what, statement in STATEMENTS.items()
    }


off = measure()
lock_order.start(threading=True)
on = measure()
for what in STATEMENTS:
    print(f"{what:25}{off[what]:8.0f} ns off{on[what]:8.0f} ns on")
