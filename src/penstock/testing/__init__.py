"""Testing concurrent programs: schedules under control.

explore     run a scenario under many schedules; the first that fails is shortened and told
replay      run it under that one again
"""

from __future__ import annotations

from penstock.testing.exploring import Explored, ScheduleFailed, explore, replay
from penstock.testing.schedules import Schedule

__all__ = ["Explored", "Schedule", "ScheduleFailed", "explore", "replay"]
