"""The plugin for pytest, as its users see it: tests run in a process of their own."""

from __future__ import annotations

import re
import sys
from textwrap import dedent

import pytest

pytest_plugins = ["pytester"]
pytestmark = [pytest.mark.timeout(60), pytest.mark.others_keep_threads]

HEADER = """
import asyncio
import time

import pytest

from penstock import Channel, Mutex, go, sleep, fail_after
"""


def run(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(HEADER + dedent(tests))
    return pytester.runpytest_subprocess("-p", "penstock.testing.plugin", "-p", "no:cacheprovider", *arguments)


def test_explore(pytester: pytest.Pytester) -> None:
    """A marked test is a scenario: with fixtures, in both colours; a failing schedule can be replayed."""
    tests = """
    @pytest.fixture
    def twice():
        return 2

    @pytest.mark.explore(schedules=50)
    def test_fine(twice):
        channel = Channel(1)
        task = go(channel.send, twice)
        assert channel.recv() == 2
        task.result()

    @pytest.mark.explore(schedules=200, strategy="random")
    def test_race():
        balance = [0]

        def add():
            before = balance[0]
            sleep(0)
            balance[0] = before + 1

        tasks = [go(add), go(add)]
        for task in tasks:
            task.result()
        assert balance[0] == 2

    @pytest.mark.explore(schedules=20)
    async def test_coroutine():
        await Channel().arecv()
    """
    result = run(pytester, tests)
    result.assert_outcomes(passed=1, failed=2)
    text = result.stdout.str()
    assert "test_coroutine waits in Channel 1: arecv" in text
    schedule = re.search(r"test_race' --penstock-replay '([^']+)'", text)
    assert schedule
    again = run(pytester, tests, "-k", "race", "--penstock-replay", schedule[1])
    again.assert_outcomes(failed=1, deselected=2)
    assert "assert 1 == 2" in again.stdout.str()


def test_virtual_time(pytester: pytest.Pytester) -> None:
    """The fixture is the clock."""
    result = run(
        pytester,
        """
        def test_hour(virtual_time):
            with pytest.raises(TimeoutError), fail_after(3600):
                Channel().recv()
            assert virtual_time.elapsed == 3600

        def test_loop(virtual_time):
            asyncio.run(asyncio.sleep(3600))
            assert virtual_time.elapsed == 3600

        def test_real():
            before = time.monotonic()
            sleep(0.01)
            assert time.monotonic() - before < 30
        """,
    )
    result.assert_outcomes(passed=3)


def test_no_leaks(pytester: pytest.Pytester) -> None:
    """A test that leaks fails, and those after it do not; what is still on its way is no leak."""
    result = run(
        pytester,
        """
        def test_leaks():
            go(Channel(name="forgotten").recv)

        def test_innocent():
            pass

        def test_leaks_again():
            go(Channel(name="once more").recv)

        @pytest.mark.allow_leaks
        def test_allowed():
            go(Channel().recv)

        def test_on_its_way():
            go(sleep, 0.2)

        def test_innocent_too():
            pass
        """,
    )
    result.assert_outcomes(passed=6, errors=2)
    text = result.stdout.str()
    assert "waits to receive from channel forgotten" in text
    assert "waits to receive from channel once more" in text
    assert "started at" in text
    assert text.count("ERROR at teardown") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no alarms")
def test_hangs(pytester: pytest.Pytester) -> None:
    """A test that hangs fails with a report, and the others go on."""
    result = run(
        pytester,
        """
        def test_library():
            with Mutex() as held:
                channel = Channel(name="silent")
                go(time.sleep, 20)
                channel.recv()

        def test_elsewhere():
            time.sleep(20)

        def test_loop():
            asyncio.run(asyncio.sleep(20))

        @pytest.mark.hang_after(0)
        def test_slow():
            time.sleep(1.5)

        def test_fine():
            pass
        """,
        "-o",
        "penstock_hang_after=1",
    )
    result.assert_outcomes(passed=2, failed=3)
    text = result.stdout.str()
    assert "no end after 1 seconds" in text
    assert "waits to receive from channel silent" in text


@pytest.mark.skipif(sys.platform != "linux", reason="all asleep is known by itself on Linux alone")
def test_deadlock(pytester: pytest.Pytester) -> None:
    """When all is asleep, that is told at once."""
    result = run(
        pytester,
        """
        def test_deadlock():
            mutex = Mutex()
            with mutex:
                go(mutex.acquire).result()
        """,
    )
    result.assert_outcomes(failed=1)
    assert "DeadlockError" in result.stdout.str()


def test_without_it(pytester: pytest.Pytester) -> None:
    """Nothing is on unless it is asked for."""
    pytester.makepyfile(HEADER + "    \n\ndef test_leaks():\n    go(Channel().recv)\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
