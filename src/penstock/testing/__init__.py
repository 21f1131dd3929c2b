"""Testing concurrent programs: schedules and time under control.

explore         run a scenario under many schedules; the first that fails is shortened and told
replay          run it under that one again
virtual_time    a clock that jumps when all tasks are parked
settled         wait until all others are parked; for asyncio tasks, asettled
plugin          the same for pytest: `pytest -p penstock.testing.plugin`
"""

from __future__ import annotations

from penstock.testing.exploring import Explored, ScheduleFailed, explore, replay
from penstock.testing.schedules import Schedule
from penstock.testing.virtual import VirtualClock, asettled, settled, virtual_time

__all__ = [
    "Explored",
    "Schedule",
    "ScheduleFailed",
    "VirtualClock",
    "asettled",
    "explore",
    "replay",
    "settled",
    "virtual_time",
]
