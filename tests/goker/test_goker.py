"""Real bugs: `explore` finds each of them, and finds nothing in the fixed forms."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from kernels.registry import KERNELS

from penstock.testing import ScheduleFailed, explore, replay

for path in sorted((Path(__file__).parent / "kernels").glob("*.py")):
    import_module(f"kernels.{path.stem}")

every_kernel = pytest.mark.parametrize("name", sorted(KERNELS))


@every_kernel
def test_the_bug_is_found(name: str) -> None:
    """Within 1,000 schedules, and its schedule gives it again."""
    kernel = KERNELS[name]
    scenario = partial(kernel.run, False)
    with pytest.raises(ScheduleFailed) as found:
        explore(scenario, lines=kernel.lines)
    assert found.value.kind in (("deadlock", "leak") if kernel.blocks else ("exception",))
    with pytest.raises(ScheduleFailed) as again:
        replay(scenario, found.value.schedule)
    assert again.value.report.splitlines()[0] == found.value.report.splitlines()[0]


@every_kernel
def test_the_fixed_form_is_clean(name: str, storm_scale: int) -> None:
    """Nothing is found in the fixed form."""
    kernel = KERNELS[name]
    explored = explore(partial(kernel.run, True), schedules=100 * storm_scale, lines=kernel.lines)
    assert explored.schedules == 100 * storm_scale
