"""The benchmarks run. What they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def benchmarks(*args: str, module: str = "benchmarks") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize(
    "part",
    ["same thread", "producer", "asyncio ping-pong", "thread to", "context", "fail_after", "update_with", "20 µs"],
)
def test_scenarios_run(part: str) -> None:
    done = benchmarks("--quick", "--json", "--only", part)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(outcome["ours"] > 0 and outcome["theirs"] > 0 for outcome in outcomes)


@pytest.mark.timeout(120)  # Each variant starts two processes.
def test_overload_runs() -> None:
    pytest.importorskip("uvicorn")
    variants = ["none", "Vegas"]
    only = [part for variant in variants for part in ("--only", variant)]
    done = benchmarks("--quick", "--json", *only, module="benchmarks.overload")
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [outcome["variant"] for outcome in outcomes] == variants
    assert all(len(outcome["goodput"]) == len(outcome["p99"]) == 11 for outcome in outcomes)
    assert benchmarks("--at-once", "0", module="benchmarks.overload").returncode == 2


def test_exploring_runs() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/exploring.py", "0.01"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2 + 6 + 1


def test_bad_input() -> None:
    unknown = benchmarks("--only", "nonsense")
    assert unknown.returncode == 2
    assert "no scenario's name contains 'nonsense'; there are" in unknown.stderr
    assert benchmarks("--rounds", "0").returncode == 2
