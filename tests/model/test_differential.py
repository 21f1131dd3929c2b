"""The compiled kernel against the interpreted one: the same programs, the same traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

TRACER = Path(__file__).parent / "tracer.py"


def trace(seed: int, count: int, interpreted: bool) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PENSTOCK_INTERPRETED"}
    if interpreted:
        environment["PENSTOCK_INTERPRETED"] = "1"
    command = [sys.executable, str(TRACER), str(seed), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert json.loads(first) == {"compiled": not interpreted}
    return lines


@pytest.mark.skipif(not penstock.COMPILED, reason="there is but one kernel here")
@pytest.mark.parametrize("seed", range(3))
def test_same_programs_same_traces(seed: int, storm_scale: int) -> None:
    """Random programs of tasks over channels, locks, groups and contexts, on one loop (H1)."""
    count = 150 * storm_scale
    assert trace(seed, count, interpreted=False) == trace(seed, count, interpreted=True)
