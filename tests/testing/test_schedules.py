"""Schedules as something to keep: text, that gives the same failure in any process, compiled or interpreted."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from penstock import Channel, Group, Mutex, RWMutex, after, current, go, select
from penstock.testing import Schedule, ScheduleFailed, explore, replay

PROGRAM = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from test_schedules import SCENARIOS

from penstock.testing import ScheduleFailed, explore, replay

folder = Path(sys.argv[3])
for name, scenario in SCENARIOS.items():
    for strategy in ("pct", "random", "dfs"):
        kept = folder / f"{name}-{strategy}"
        try:
            if sys.argv[1] == "explore":
                explore(scenario, strategy=strategy, lines=name == "racing")
            else:
                replay(scenario, kept.read_text())
        except ScheduleFailed as failure:
            if sys.argv[1] == "explore":
                kept.write_text(failure.schedule)
            print(name, strategy, failure.schedules if sys.argv[1] == "explore" else "", failure.report, sep="\\n")
"""


def two_locks() -> None:
    first, second = Mutex(), Mutex()

    def nested(outer: Mutex, inner: Mutex) -> None:
        with outer, inner:
            pass

    with Group() as group:
        group.go(nested, first, second)
        group.go(nested, second, first)


def too_late() -> None:
    channel: Channel[int] = Channel()
    context = current().with_timeout(1)
    context.after_func(channel.close)
    go(channel.send, 1)
    select(channel, context.done, after(2))


def reading_twice() -> None:
    lock = RWMutex()

    def read() -> None:
        with lock.read(), lock.read():
            pass

    with Group() as group:
        group.go(read)
        group.go(lock.acquire_write)


def racing() -> None:
    count = [0]

    def add() -> None:
        before = count[0]
        count[0] = before + 1

    with Group() as group:
        group.go(add)
        group.go(add)
    assert count == [2]


SCENARIOS = {scenario.__name__: scenario for scenario in (two_locks, too_late, reading_twice, racing)}
every_scenario = pytest.mark.parametrize("name", sorted(SCENARIOS))


def failure_of(name: str) -> ScheduleFailed:
    with pytest.raises(ScheduleFailed) as found:
        explore(SCENARIOS[name], lines=name == "racing")
    return found.value


def run(verb: str, folder: Path, *, interpreted: bool) -> str:
    environment = {**os.environ, "PENSTOCK_INTERPRETED": "1" if interpreted else "", "PYTHONHASHSEED": "random"}
    command = [sys.executable, "-c", PROGRAM, verb, str(Path(__file__).parent), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("interpreted", [False, True])
def test_kept_in_a_file_and_replayed_in_another_process(tmp_path: Path, interpreted: bool) -> None:
    """The whole report is the same, letter for letter, and whether the kernel is compiled makes no difference."""
    found = run("explore", tmp_path, interpreted=interpreted)
    assert len(list(tmp_path.iterdir())) == 3 * len(SCENARIOS)
    numbers = [line for line in found.splitlines() if not line.isdigit()]
    again = run("replay", tmp_path, interpreted=not interpreted)
    assert [line for line in again.splitlines() if line] == [line for line in numbers if line]


def test_the_same_seed_finds_the_same_compiled_and_interpreted(tmp_path: Path) -> None:
    """The same schedules are tried, in the same order."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    found = [run("explore", tmp_path / name, interpreted=name == "one") for name in ("one", "other")]
    assert found[0] == found[1]


@every_scenario
def test_it_is_text(name: str) -> None:
    """Print it, format it, compare it, put it into JSON or a pickle: it is a line."""
    failure = failure_of(name)
    schedule = failure.schedule
    assert isinstance(schedule, str)
    assert "\n" not in schedule
    assert Schedule(schedule) == Schedule.parse(str(schedule)) == schedule == f"{schedule}"
    for copy in (json.loads(json.dumps(schedule)), pickle.loads(pickle.dumps(schedule)), f"  {schedule}\n"):
        with pytest.raises(ScheduleFailed) as again:
            replay(SCENARIOS[name], copy)
        assert (again.value.kind, again.value.report) == (failure.kind, failure.report)
        assert again.value.schedule == schedule


def test_what_it_says() -> None:
    """The choices that were not the default ones, and what else the replay has to know."""
    schedule = Schedule.of({3: 1, 7: -1}, lines=True, max_steps=99)
    assert schedule == "penstock-schedule-1 lines=1 max_steps=99 3:1 7:-1"
    assert (schedule.choices, schedule.lines, schedule.max_steps) == ({3: 1, 7: -1}, True, 99)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3:4",
        "penstock-schedule-1",
        "penstock-schedule-2 lines=0 max_steps=9",
        "penstock-schedule-1 lines=2 max_steps=9",
        "penstock-schedule-1 lines=0 max_steps=0",
        "penstock-schedule-1 lines=0 max_steps=many",
        "penstock-schedule-1 lines=0 max_steps=9 1",
        "penstock-schedule-1 lines=0 max_steps=9 1:2:3",
        "penstock-schedule-1 lines=0 max_steps=9 1:x",
        "penstock-schedule-1 lines=0 max_steps=9 -1:2",
        "penstock-schedule-1 lines=0 max_steps=9 1:2 1:3",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    """ValueError, and not a run of something else."""
    with pytest.raises(ValueError, match="not a schedule"):
        replay(two_locks, text)


# Of another scenario


def selecting() -> None:
    one, other = Channel[int](1), Channel[int](1)
    with Group() as group:
        group.go(one.close)
        group.go(other.close)
        select(one, other)


@pytest.mark.parametrize("choice", [-7, -1, 5, 99, 10**30])
def test_choices_that_do_not_fit_are_told(choice: int) -> None:
    """Whatever a schedule says, the scenario is told not to be the one that it is of."""
    for number in range(12):
        with pytest.raises(ScheduleFailed) as misfit:
            replay(selecting, Schedule.of({number: choice}))
        assert misfit.value.kind == "nondeterministic"
        first, *_ = misfit.value.report.splitlines()
        assert first.startswith("nondeterministic: the schedule is not one of this scenario: ")
    with pytest.raises(ScheduleFailed, match="ended after"):
        replay(selecting, Schedule.of({1000: 0}))


@every_scenario
@pytest.mark.parametrize("other", sorted(SCENARIOS))
def test_a_schedule_of_another_scenario_harms_nobody(name: str, other: str) -> None:
    """It passes, fails, or is told not to fit: it never crashes, hangs, or is answered by another error."""
    schedule = failure_of(name).schedule
    try:
        replay(SCENARIOS[other], schedule)
    except ScheduleFailed as failure:
        assert failure.kind in {"deadlock", "leak", "exception", "nondeterministic"}


def test_the_failure_of_a_schedule_that_does_not_fit_is_told_too() -> None:
    """How far it fits, and what comes of it."""
    with pytest.raises(ScheduleFailed) as found:
        replay(partial(select), Schedule.of({4: 4}))
    assert found.value.kind == "nondeterministic"
    assert "deadlock: 1 task is parked for ever: main" in found.value.report


def test_what_passes_is_no_failure() -> None:
    """A schedule under which the scenario does not fail any more."""
    replay(selecting, Schedule.of({}))
