"""Real bugs: `explore` finds each of them, and finds nothing in the fixed forms."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from kernels.registry import KERNELS

from penstock.testing import ScheduleFailed, explore, replay

ROOT = Path(__file__).parent.parent.parent

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
    explored = explore(partial(kernel.run, True), schedules=50 * storm_scale, lines=kernel.lines)
    assert explored.schedules == 50 * storm_scale


def test_the_table_is_complete() -> None:
    """The documentation has each kernel once."""
    table = (ROOT / "docs" / "goker.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| \[(\w+ \d+)\]", table, re.MULTILINE)) == sorted(KERNELS)


@pytest.mark.skipif(sys.platform != "linux", reason="what is stuck is told by Linux")
def test_the_table_can_be_made() -> None:
    """By the command that it names."""
    command = [sys.executable, "benchmarks/goker.py", "--runs", "2", "etcd 6708", "moby 22941"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(" | ")[2:] for line in done.stdout.splitlines() if line.startswith("| [")]
    assert rows == [["1", "deadlock", "2 of 2", "2 of 2 |"], ["1", "exception", "at calls |"]]
    assert "\n4 runs of fixed forms (--fixed): 0 reports\n" in done.stdout
