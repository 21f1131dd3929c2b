"""What every test gets: a header that says which kernel runs, and a check that nothing is left behind."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

import penstock
from penstock._kernel.threads import HAS_GIL
from penstock._kernel.timers import pending_timers

if TYPE_CHECKING:
    from collections.abc import Iterator

# Free-threaded, CPython 3.14.5 crashes when garbage is collected in the instant in which an asyncio task ends
# in a thread that is not its loop's (CPython issue 153809), and asyncio.run lets the tasks of other loops end in its
# thread. So garbage is collected between tests.
COLLECTS_BETWEEN_TESTS = not HAS_GIL and sys.version_info < (3, 14, 7)
MUCH_GARBAGE = 20_000


def pytest_report_header() -> str:
    kernel = "compiled" if penstock.COMPILED else "interpreted"
    gil = "on" if HAS_GIL else "off"
    return f"kernel: {kernel}, GIL: {gil}"


def pytest_configure() -> None:
    # A shell starts what it runs in the background with Ctrl-C ignored; what tests start would inherit it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if COLLECTS_BETWEEN_TESTS:
        gc.disable()


def pytest_runtest_teardown() -> None:
    if COLLECTS_BETWEEN_TESTS and gc.get_count()[0] > MUCH_GARBAGE:
        gc.collect()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--storm-scale", type=int, default=1, help="how many times longer storms last")


@pytest.fixture
def storm_scale(request: pytest.FixtureRequest) -> int:
    """How many times longer than in the gate a storm lasts."""
    return int(request.config.getoption("--storm-scale"))


def foreign_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name != "penstock-worker" and thread.is_alive()]


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no thread but the pool's idle ones, and no timer."""
    if request.node.get_closest_marker("others_keep_threads"):
        yield
        return
    before = set(foreign_threads())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [thread for thread in foreign_threads() if thread not in before]
        if not left and not pending_timers():
            return
        gc.collect()
        time.sleep(0.01)
    assert not left, f"threads left behind: {left}"
    assert not pending_timers(), "timers left behind"
