"""Running a scenario under one schedule after the other, until one fails or there are no more."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutine, iscoroutinefunction, unwrap
from typing import TYPE_CHECKING, Any, NoReturn, Self

from penstock._kernel import simulation
from penstock._kernel.loops import running_event_loop
from penstock._kernel.simulated_loop import run_in_world, simulate_loops
from penstock.sync import Mutex
from penstock.testing import foreign, points
from penstock.testing.carriers import Crew
from penstock.testing.lines import line_tracer
from penstock.testing.schedules import Schedule
from penstock.testing.strategies import Follow, Strategy, strategy_named
from penstock.testing.timeline import Story, first_difference, tell
from penstock.testing.world import ExploredWorld

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from penstock.testing.actors import Verdict

STUCK = 10.0
"""Seconds without a step, after which a task is said to wait for something outside the library."""
PATIENCE = 2.0
"""Seconds that a task may take to be unwound."""
SHORTENINGS = 150
"""So many schedules are tried at most to find a shorter one that fails."""
COLLECT_EVERY = 200
MOST_LOST = 50

_FAILURES = ("deadlock", "leak", "exception")


@dataclass(frozen=True)
class Explored:
    """What an exploration that found nothing has tried."""

    schedules: int
    """How many schedules."""
    exhausted: bool
    """With the strategy "dfs": have all schedules within its bounds been tried, and none been cut?"""
    cut: int
    """How many were given up after `max_steps` steps."""


class ScheduleFailed(AssertionError):  # noqa: N818  what has happened to the schedule
    """A schedule under which the scenario fails. `__cause__` is the exception, if it is one."""

    def __init__(self, kind: str, schedules: int, schedule: Schedule, report: str) -> None:
        super().__init__(report)
        self.kind = kind
        """"deadlock", "leak", "exception", or "nondeterministic"."""
        self.schedules = schedules
        """How many schedules were tried, this one included."""
        self.schedule = schedule
        """The schedule, shortened; for `replay`."""
        self.report = report
        """What happened, step by step."""


@dataclass(frozen=True)
class _Run:
    """One schedule, and how it ended."""

    world: ExploredWorld
    verdict: Verdict

    @property
    def failed(self) -> bool:
        return self.verdict.kind in _FAILURES

    def like(self, other: _Run) -> bool:
        """Is it the same failure?"""
        return self.verdict.kind == other.verdict.kind and type(self.verdict.error) is type(other.verdict.error)


_ONE_AT_A_TIME = Mutex()


class _Stage:
    """What has to stand around the schedules: switch points, loops, what is refused, no garbage collection."""

    def __init__(self, scenario: Callable[[], Any], lines: bool, max_steps: int) -> None:
        self._scenario = scenario
        self._lines = lines
        self._max_steps = max_steps
        self._crew = Crew()
        self._runs = 0
        self._collects = False
        self._restore_loops: Callable[[], None] = _nothing
        self._permit_foreign: Callable[[], None] = _nothing

    def __enter__(self) -> Self:
        _ONE_AT_A_TIME.acquire()
        self._permit_foreign = foreign.refuse()
        simulation.install()
        points.install()
        self._restore_loops = simulate_loops(simulation.simulated.world)
        self._collects = gc.isenabled()
        gc.disable()
        gc.freeze()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.unfreeze()
        if self._collects:
            gc.enable()
        self._crew.dismiss()
        self._restore_loops()
        points.remove()
        simulation.uninstall()
        self._permit_foreign()
        _ONE_AT_A_TIME.release()

    def run(self, strategy: Strategy, *, story: bool = False) -> _Run:
        """One schedule."""
        self._runs += 1
        if self._runs % COLLECT_EVERY == 0:
            gc.collect()
        world = ExploredWorld(self._crew, strategy, self._max_steps)
        if self._lines:
            world.tracer = line_tracer(self._scenario, world)
        if story:
            world.events = []
        job = partial(run_in_world, world) if _is_async(self._scenario) else _call
        world.run(partial(job, self._scenario))
        try:
            verdict = _awaited(world)
        except BaseException:
            world.over = True
            world.unwind(PATIENCE)
            raise
        if story:
            world.story = tell(world, verdict)
        world.unwind(PATIENCE)
        for loop in world.loops:
            loop.silence()
        strategy.end(world.steps)
        for task in world.failed:
            task._collected = True
        if self._crew.lost > MOST_LOST:
            raise RuntimeError("too many tasks of the scenario do not end when they are unwound; let Cancelled pass")
        if verdict.kind == "foreign" and verdict.error is not None:
            raise verdict.error
        return _Run(world, verdict)

    def schedule(self, run: _Run) -> Schedule:
        """The schedule of a run, as a value."""
        return Schedule.of(run.world.choices, lines=self._lines, max_steps=self._max_steps)

    def follow(self, choices: dict[int, int], *, story: bool = False) -> _Run:
        """The schedule with these choices."""
        strategy = Follow(choices)
        strategy.begin()
        return self.run(strategy, story=story)


def _nothing() -> None:
    pass


def _call(scenario: Callable[[], Any]) -> None:
    result = scenario()
    if iscoroutine(result):
        result.close()
        raise TypeError(f"the scenario {scenario!r} returned a coroutine; pass the async function itself")


def _awaited(world: ExploredWorld) -> Verdict:
    """How the schedule under way ends."""
    steps = -1
    while not world.finished.rest(STUCK):
        if steps == world.steps:
            raise RuntimeError(Story(world).stuck(STUCK))
        steps = world.steps
    assert world.verdict is not None  # noqa: S101  it comes before `finished` is roused
    return world.verdict


def _plain(scenario: Any) -> Any:
    while isinstance(scenario, partial):
        scenario = scenario.func
    return unwrap(scenario)


def _is_async(scenario: Any) -> bool:
    plain = _plain(scenario)
    return iscoroutinefunction(plain) or iscoroutinefunction(getattr(plain, "__call__", None))  # noqa: B004


def _check(scenario: Any, name: str) -> None:
    if not callable(scenario):
        raise TypeError(f"{name}() takes a scenario, a function without arguments, not {scenario!r}")
    if running_event_loop() is not None:
        raise RuntimeError(f"{name}() would block the event loop; call it outside, with the async function itself")
    if simulation.simulated.world() is not None:
        raise RuntimeError(f"{name}() inside an explored scenario; explore one scenario at a time")


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, not {value}")
    return value


def explore(  # noqa: PLR0913, PLR0917  the contract's parameters
    scenario: Callable[[], Any],
    schedules: int = 1000,
    seed: int = 0,
    strategy: str = "pct",
    lines: bool = False,
    max_steps: int = 20_000,
) -> Explored:
    """Run `scenario`, a function or an async function, under up to `schedules` different schedules.

    In it, which task goes next, which ready case a select takes, and when timers fire is decided by the `strategy`:
    "pct" (the default) and "random" by lot from `seed`, "dfs" one after the other. Tasks can be switched before and
    after each call of the library; with `lines` also between the lines of the file that defines the scenario. The clock
    is the exploration's own. Raises `ScheduleFailed` for the first schedule under which

    - all tasks are parked for ever before the scenario has returned ("deadlock"),
    - tasks are parked for ever after it has ("leak"),
    - the scenario, or a task whose error nobody collects, raises ("exception"),
    - or the scenario does something else than before under the same schedule ("nondeterministic").

    A schedule of more than `max_steps` steps is cut, which is no failure. RuntimeError if the scenario sleeps, starts
    threads or opens sockets for real. What passes under so many schedules may still fail under another.
    """
    _check(scenario, "explore")
    _count(schedules, "schedules")
    _count(max_steps, "max_steps")
    chosen = strategy_named(strategy, seed)
    tried = cut = 0
    with _Stage(scenario, lines, max_steps) as stage:
        while tried < schedules and chosen.begin():
            run = stage.run(chosen)
            if run.verdict.kind == "redundant" or chosen.repeated:
                continue
            if run.verdict.kind == "different":
                raise _different(stage, run, run.verdict.detail, tried + 1)
            tried += 1
            cut += run.verdict.kind == "cut"
            if run.failed:
                _raise_shortened(stage, run, tried)
            if tried == 1:
                _check_deterministic(stage, run, stage.follow(run.world.choices), tried)
    return Explored(tried, chosen.exhausted and not cut, cut)


def replay(scenario: Callable[[], Any], schedule: Schedule | str) -> None:
    """Run `scenario` under the schedule of a failure, or under its text, wherever that comes from.

    Raises the same `ScheduleFailed`, step for step; returns if the scenario does not fail under it any more. If the
    schedule decides what the scenario does not leave to decide, it is that of another scenario, or of what this one was
    before it was changed: `ScheduleFailed` of the kind "nondeterministic".
    """
    _check(scenario, "replay")
    if not isinstance(schedule, str):
        raise TypeError(f"replay() takes a schedule, or the text of one, not {schedule!r}")
    if not isinstance(schedule, Schedule):
        schedule = Schedule(schedule)
    with _Stage(scenario, schedule.lines, schedule.max_steps) as stage:
        following = Follow(schedule.choices)
        following.begin()
        run = stage.run(following, story=True)
        if following.misfit:
            raise _misfit(run, following.misfit, schedule)
        if run.failed:
            raise _failure(run, 1, schedule)


def _failure(run: _Run, schedules: int, schedule: Schedule) -> ScheduleFailed:
    report = f"{run.world.story}\n\nReplay it with:\n  replay(scenario, {str(schedule)!r})"
    failure = ScheduleFailed(run.verdict.kind, schedules, schedule, report)
    failure.__cause__ = run.verdict.error
    return failure


def _raise_shortened(stage: _Stage, run: _Run, tried: int) -> NoReturn:
    again = stage.follow(run.world.choices)
    _check_deterministic(stage, run, again, tried)
    shortest = _shortened(stage, again)
    told = stage.follow(shortest.world.choices, story=True)
    _check_deterministic(stage, shortest, told, tried)
    raise _failure(told, tried, stage.schedule(told))


def _shortened(stage: _Stage, run: _Run) -> _Run:
    """The same failure with fewer choices that are not the default (after Zeller's delta debugging)."""
    budget = SHORTENINGS
    size = len(run.world.choices)
    while size and budget:
        at = 0
        while at < len(run.world.choices) and budget:
            numbers = sorted(run.world.choices)
            without = {number: run.world.choices[number] for number in numbers[:at] + numbers[at + size :]}
            budget -= 1
            shorter = stage.follow(without)
            if shorter.like(run) and len(shorter.world.choices) < len(run.world.choices):
                run = shorter
            else:
                at += size
        size //= 2
    return run


def _check_deterministic(stage: _Stage, run: _Run, again: _Run, tried: int) -> None:
    """Raise unless two runs under one schedule were the same."""
    if again.like(run) and again.world.trace == run.world.trace:
        return
    raise _different(stage, run, first_difference(run.world, again.world), tried)


def _different(stage: _Stage, run: _Run, difference: str, tried: int) -> ScheduleFailed:
    report = (
        "nondeterministic: under the same schedule the scenario did something else the second time\n"
        f"{difference}\n"
        "A scenario must depend on nothing but its schedule: no random numbers, no real time, nothing kept from one run"
        " to the next, no order of a set."
    )
    return ScheduleFailed("nondeterministic", tried, stage.schedule(run), report)


def _misfit(run: _Run, misfit: str, schedule: Schedule) -> ScheduleFailed:
    report = (
        f"nondeterministic: the schedule is not one of this scenario: {misfit}\n"
        "It is another's, or the scenario has been changed since, or depends on something else than its schedule:"
        " explore it anew."
    )
    if run.failed:
        report += f"\n\nFollowed as far as it fits, it ends in\n{run.world.story}"
    return ScheduleFailed("nondeterministic", 1, schedule, report)
