"""For pytest: schedules, virtual time, no leaks, and reports instead of hangs.

Switch it on with `pytest -p penstock.testing.plugin`, or in `conftest.py` with
`pytest_plugins = ["penstock.testing.plugin"]`. Then there are

    @pytest.mark.explore(schedules=1000, ...)   the test is a scenario: see `explore`, whose parameters it takes
    virtual_time                                a fixture: the test runs in virtual time; it is the clock
    no_leaks                                    a fixture of every test: it fails if tasks that it has started can
                                                never be woken; not with @pytest.mark.allow_leaks
    @pytest.mark.hang_after(seconds)            fails, with a report, what has not ended by then. For tests without it
                                                the ini option `penstock_hang_after` says so: 60 seconds, 0 for never
    --penstock-replay SCHEDULE                  explored tests run under this schedule alone

While it is on, tasks, channels and locks are named in reports by where they were made.
"""

from __future__ import annotations

import signal
import weakref
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
from _pytest.python import pytest_pyfunc_call as run_test

from penstock._kernel.inspection import parked_operations
from penstock._kernel.threads import is_main_thread, this_thread
from penstock.deadlock import leaks, record_sites, report
from penstock.deadlock.asleep import SETTINGS
from penstock.deadlock.quiet import wait_until_parked
from penstock.deadlock.reporting import leaked
from penstock.deadlock.stacks import BOUNDARIES
from penstock.testing.exploring import ScheduleFailed, explore, replay
from penstock.testing.virtual import VirtualClock, virtual_time

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import FrameType

    from penstock.deadlock import ParkedTask

PATIENCE = 0.5
"""So long, in seconds, what still runs after a test may take to park or end, before leaks are looked for."""
HANG_AFTER = 60.0
_MARKERS = (
    "explore(schedules, seed, strategy, lines, max_steps): the test is a scenario for penstock.testing.explore",
    "allow_leaks: the test may leave tasks that can never be woken",
    "hang_after(seconds): the test fails, with a report, if it has not ended by then; 0: never",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What can be said on the command line and in the configuration."""
    parser.getgroup("penstock").addoption(
        "--penstock-replay", metavar="SCHEDULE", help="run explored tests under this schedule alone"
    )
    parser.addini("penstock_hang_after", f"seconds after which a test hangs; 0: never ({HANG_AFTER:g})")


def pytest_configure(config: pytest.Config) -> None:
    """From now on, reports know where things were made."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    record_sites(True)
    BOUNDARIES.add(run_test.__code__)


def pytest_unconfigure() -> None:
    """As before."""
    record_sites(False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Explore what is marked so."""
    marker = pyfuncitem.get_closest_marker("explore")
    if marker is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    scenario = partial(pyfuncitem.obj, **arguments)
    schedule = pyfuncitem.config.getoption("penstock_replay")
    try:
        if schedule is None:
            explore(scenario, *marker.args, **marker.kwargs)
        else:
            replay(scenario, schedule)
    except ScheduleFailed as failure:
        again = f"  pytest -p penstock.testing.plugin '{pyfuncitem.nodeid}' --penstock-replay '{failure.schedule}'"
        raise pytest.fail.Exception(f"{failure.report}\nor with:\n{again}", pytrace=False) from failure.__cause__
    return True


@pytest.fixture(name="virtual_time")
def _virtual_time() -> Iterator[VirtualClock]:
    """The test, and all that it starts, runs in virtual time; the clock."""
    with virtual_time() as clock:
        yield clock


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test if tasks that have been parked since it began can never be woken."""
    before = _parked()
    yield
    if _parked() <= before:
        return
    wait_until_parked(PATIENCE)
    tasks = [task for task in leaks() if _identity(task) not in _told]
    _told.update(map(_identity, tasks))
    if tasks and request.node.get_closest_marker("allow_leaks") is None:
        pytest.fail(leaked(tasks), pytrace=False)


_told: set[object] = set()
"""The leaks of tests before."""


def _parked() -> set[object]:
    return {weakref.ref(operation.waiter) for operation in parked_operations()}


def _identity(task: ParkedTask) -> object:
    return task.since, task.operation, task.stack


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail, with a report, what has not ended after a while."""
    marker = item.get_closest_marker("hang_after")
    seconds = float(marker.args[0] if marker else item.config.getini("penstock_hang_after") or HANG_AFTER)
    with _alarm(seconds):
        return (yield)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Fail in the main thread after so many seconds, unless somebody else has set the alarm."""
    number = getattr(signal, "SIGALRM", None)
    if number is None or seconds <= 0 or not is_main_thread(this_thread()) or callable(signal.getsignal(number)):
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"no end after {seconds:g} seconds\n\n{report()}")

    before = signal.signal(number, ring)
    SETTINGS.own_handlers.append(ring)  # It wakes no task, so that DeadlockError is raised as without it.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)
        SETTINGS.own_handlers.remove(ring)
