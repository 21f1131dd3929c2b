"""Functions that see a loop's variable as it is when they run, not as it was when they were made: Python's are as Go's
were before version 1.22.

After the kernels of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
Written anew for Penstock from what is told there of each bug.
"""

# ruff: noqa: B023  that is the bug

from __future__ import annotations

from kernels.goroutines import go
from kernels.registry import non_blocking

from penstock import Mutex, WaitGroup


@non_blocking("cockroach", 35501)
def cockroach_35501(fixed: bool) -> None:
    """The constraints of a table are validated in a task each, but the tasks take the constraint from the loop. Fixed
    by passing it on.
    """
    validated: list[str] = []

    def validate(constraint: str) -> None:
        with lock:
            assert constraint not in validated, "one constraint twice, so another never"
            validated.append(constraint)

    def backfill() -> None:
        for constraint in ("positive", "unique", "not null"):
            if fixed:
                go(validate, constraint)
            else:
                go(lambda: validate(constraint))
        backfilled.done()

    lock = Mutex()
    backfilled = WaitGroup()
    backfilled.add()
    go(backfill)
    backfilled.wait()


@non_blocking("moby", 22941)
def moby_22941(fixed: bool) -> None:
    """Each request of a table of tests is written in a task, which takes the request from the loop. Fixed by passing it
    on.
    """
    written: list[str] = []

    def write(request: str) -> None:
        with lock:
            assert request not in written, "one request twice, so another never"
            written.append(request)

    lock = Mutex()
    tests = [("GET /foo", "GET /foo close"), ("GET /bar", "GET /bar close")]
    for pair in tests:
        if fixed:
            go(write, pair[0])
        else:
            go(lambda: write(pair[0]))


@non_blocking("moby", 27037)
def moby_27037(fixed: bool) -> None:
    """A test tries the versions of an interface in a task each, which take the version from the loop. Fixed by passing
    it on.
    """
    tried: list[str] = []

    def attempt(version: int) -> None:
        with lock:
            tried.append(f"v1.{version}")
        running.done()

    lock = Mutex()
    running = WaitGroup()
    for version in range(17, 22):
        running.add()
        if fixed:
            go(attempt, version)
        else:
            go(lambda: attempt(version))
    running.wait()
    assert sorted(tried) == ["v1.17", "v1.18", "v1.19", "v1.20", "v1.21"]
