"""Penstock beside its peers: `python -m benchmarks` prints one table of ratios.

Each figure is the median of rounds in which the contenders take turns; a ratio below 1 means that Penstock is faster.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import kernel
import loops
import memory
import patterns
import threads
from harness import Outcome, measure

import penstock

SCENARIOS = [*threads.SCENARIOS, *loops.SCENARIOS, *kernel.SCENARIOS, *memory.SCENARIOS, *patterns.SCENARIOS]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Penstock against its peers.")
    parser.add_argument("--only", metavar="TEXT", help="only the scenarios whose name contains TEXT")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds of each scenario (default: 7)")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, measures nothing")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each ratio")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return chosen


def row(outcome: Outcome) -> str:
    """One line of the table."""
    target = "" if outcome.target is None else f"≤ {outcome.target:g}"
    reached = {None: "", True: "yes", False: "no"}[outcome.reached]
    spread = f"{outcome.spread[0]:.2f}-{outcome.spread[1]:.2f}"
    return (
        f"{outcome.scenario:32}{outcome.peer:22}{outcome.ours:>9,.0f}{outcome.theirs:>10,.0f} {outcome.unit:6}"
        f"{outcome.ratio:>7.3f} {spread:>11}{target:>8} {reached}"
    )


def main() -> int:
    """Measure, and print as each scenario is done."""
    chosen = arguments()
    scenarios = [scenario for scenario in SCENARIOS if (chosen.only or "") in scenario.name]
    if not scenarios:
        names = "\n  ".join(scenario.name for scenario in SCENARIOS)
        print(f"no scenario's name contains {chosen.only!r}; there are:\n  {names}", file=sys.stderr)
        return 2
    free_threaded = not getattr(sys, "_is_gil_enabled", lambda: True)()
    kernel_name = "compiled" if penstock.COMPILED else "interpreted"
    if not chosen.json:
        print(f"Python {platform.python_version()}, GIL {'off' if free_threaded else 'on'}, kernel {kernel_name}")
        print(f"{'scenario':32}{'against':22}{'ours':>9}{'theirs':>10} {'':6}{'ratio':>7} {'spread':>11}{'target':>8}")
    missing: list[str] = []
    for number, scenario in enumerate(scenarios, 1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{number}/{len(scenarios)} {scenario.name}", end="\r", file=sys.stderr, flush=True)
        rounds, seconds = (1, 0.001) if chosen.quick else (chosen.rounds, 0.05)
        outcomes, lacking = measure(scenario, rounds, seconds, free_threaded)
        missing += lacking
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        for outcome in outcomes:
            print(json.dumps(asdict(outcome)) if chosen.json else row(outcome), flush=True)
    for line in missing:
        print(f"not measured: {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
