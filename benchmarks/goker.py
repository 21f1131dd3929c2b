"""The bugs of GoKer, found by `explore` and by `leaks()`, as a table in Markdown: python benchmarks/goker.py

The table is that of `docs/goker.md`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.testing import ScheduleFailed, explore

if TYPE_CHECKING:
    from collections.abc import Iterable

GOKER = Path(__file__).parent.parent / "tests" / "goker"
REPOSITORIES = {
    "cockroach": "cockroachdb/cockroach",
    "etcd": "etcd-io/etcd",
    "grpc": "grpc/grpc-go",
    "hugo": "gohugoio/hugo",
    "istio": "istio/istio",
    "kubernetes": "kubernetes/kubernetes",
    "moby": "moby/moby",
    "serving": "knative/serving",
    "syncthing": "syncthing/syncthing",
}
BATCH = 8  # Kernels that share a process, with all the tasks that they leave behind.

BUGS = {
    "cockroach 584": "lock kept on one way out",
    "cockroach 1055": "lock held while waiting for a wait group",
    "cockroach 1462": "send that nobody receives any more",
    "cockroach 2448": "two tasks send to each other",
    "cockroach 3710": "read lock taken twice, a writer between",
    "cockroach 6181": "read lock taken twice, a writer between",
    "cockroach 7504": "two locks in two orders",
    "cockroach 9935": "lock taken twice",
    "cockroach 10214": "two locks in two orders",
    "cockroach 10790": "receive of what is not sent any more",
    "cockroach 13197": "context never cancelled",
    "cockroach 13755": "context never cancelled",
    "cockroach 16167": "read lock taken twice, a writer between",
    "cockroach 18101": "send that nobody receives any more",
    "cockroach 24808": "send to a full channel before its receiver starts",
    "cockroach 25456": "receive where a look was meant",
    "cockroach 35073": "send to a full channel whose receiver has failed",
    "cockroach 35931": "send to a full channel by who should tell its receiver",
    "etcd 5509": "read lock kept on one way out",
    "etcd 6708": "read lock taken by its writer",
    "etcd 6857": "send to a task that has stopped",
    "etcd 6873": "lock held while waiting for a channel",
    "etcd 7443": "lock held while sending to a full channel",
    "etcd 7492": "lock held while sending to a full channel",
    "etcd 7902": "lock held while waiting for a channel",
    "etcd 10492": "lock taken twice",
    "grpc 660": "send that nobody receives any more",
    "grpc 795": "lock taken twice",
    "grpc 862": "context never cancelled",
    "grpc 1275": "receive of what is never sent",
    "grpc 1353": "lock held while sending",
    "grpc 1424": "channel closed on one way out only",
    "grpc 1460": "lock held while receiving",
    "grpc 3017": "lock kept on one way out",
    "hugo 3251": "two locks in two orders",
    "hugo 5379": "lock taken twice, through a once",
    "istio 16224": "lock held while sending",
    "istio 17860": "send that nobody receives any more",
    "istio 18454": "receive from a timer that has been received from",
    "kubernetes 1321": "lock held while sending",
    "kubernetes 5316": "send after the receiver's timeout",
    "kubernetes 6632": "lock held while sending",
    "kubernetes 10182": "lock held while sending",
    "kubernetes 11298": "notification before the wait",
    "kubernetes 13135": "two locks in two orders",
    "kubernetes 25331": "send that nobody receives any more",
    "kubernetes 26980": "lock held while receiving",
    "kubernetes 30872": "two locks in two orders",
    "kubernetes 38669": "send that nobody receives",
    "kubernetes 58107": "read lock held while waiting for a condition",
    "kubernetes 62464": "read lock taken twice, a writer between",
    "kubernetes 70277": "channel that is closed too late",
    "moby 4395": "send that nobody receives",
    "moby 4951": "two locks in two orders",
    "moby 7559": "lock taken twice",
    "moby 17176": "lock kept on one way out",
    "moby 21233": "receiver that gives up before its senders",
    "moby 25384": "wait group waited for before all is started",
    "moby 27782": "condition that waits for its waiter's receive",
    "moby 28462": "lock held while sending",
    "moby 29733": "condition that nobody notifies",
    "moby 30408": "condition that cannot come true any more",
    "moby 33293": "send before anybody has the channel",
    "moby 33781": "send that nobody receives any more",
    "moby 36114": "lock taken twice",
    "serving 2137": "lock released in an order that a channel does not keep",
    "syncthing 4829": "read lock taken by its writer",
    "syncthing 5795": "task that waits for its own end",
    "cockroach 4407": "wait group counted up too late",
    "cockroach 35501": "loop variable captured",
    "etcd 3077": "channel not made yet",
    "etcd 4876": "race: a setting changed while read",
    "etcd 8194": "race: a setting changed while read",
    "etcd 9446": "race: a dict changed while gone through",
    "grpc 1687": "send on a closed channel",
    "grpc 1748": "race: a setting changed too early",
    "grpc 2371": "channel gone when it is used",
    "grpc 3090": "value used before it is there",
    "istio 8144": "counter read without waiting",
    "istio 8214": "race: a pair of counters read without the lock",
    "istio 8967": "channel gone when it is used",
    "istio 16742": "race: value dropped between check and use",
    "kubernetes 13058": "wait group counted up too late",
    "kubernetes 49404": "result read without waiting",
    "kubernetes 70892": "race: lost update",
    "kubernetes 77796": "race: a list changed while gone through",
    "kubernetes 79631": "race: a dict changed between check and use",
    "kubernetes 80284": "race: made twice",
    "kubernetes 81091": "race: lost update",
    "kubernetes 81148": "race: value changed without the lock",
    "kubernetes 82239": "race: a dict changed while gone through",
    "kubernetes 82550": "race: made twice",
    "kubernetes 88331": "race: a list changed between check and use",
    "kubernetes 89164": "race: a list changed while gone through",
    "moby 18412": "output read while it is still written",
    "moby 22941": "loop variable captured",
    "moby 27037": "loop variable captured",
    "serving 3068": "send on a closed channel",
    "serving 3148": "hook added too late",
    "serving 4908": "task that outlives its test",
    "serving 5865": "send on a closed channel",
    "serving 6171": "task that outlives its test",
    "serving 6472": "queued before it is counted",
}


def explored(kernel: Any) -> tuple[str, str]:
    """How many schedules were needed, and what failed."""
    try:
        explore(partial(kernel.run, False), lines=kernel.lines)
    except ScheduleFailed as failure:
        return str(failure.schedules), failure.kind
    return "not found", ""


def plain_runs(names: list[str], times: int, *options: str) -> dict[str, dict[str, Any]]:
    """What became of plain runs of these kernels."""
    outcomes: dict[str, dict[str, Any]] = {}
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        command = [sys.executable, str(GOKER / "plain.py"), "--runs", str(times), *options, *batch]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
        outcomes.update(json.loads(done.stdout)["kernels"])
    return outcomes


def in_order(names: Iterable[str]) -> list[str]:
    """By project and number."""
    return sorted(names, key=lambda name: (name.split()[0], int(name.split()[1])))


def link(name: str) -> str:
    project, number = name.split()
    return f"[{name}](https://github.com/{REPOSITORIES[project]}/pull/{number})"


def print_blocking(kernels: dict[str, Any], times: int) -> None:
    names = in_order(name for name, kernel in kernels.items() if kernel.blocks)
    calm, noisy = plain_runs(names, times), plain_runs(names, times, "--noise")
    print("| kernel | the bug | schedules | failure | plain runs | held up at random |")
    print("|---|---|--:|---|--:|--:|")
    for name in names:
        schedules, kind = explored(kernels[name])
        cells = [f"{told['reported']} of {told['happened']}" for told in (calm[name], noisy[name])]
        print(f"| {link(name)} | {BUGS[name]} | {schedules} | {kind} | {cells[0]} | {cells[1]} |")
    for what, outcomes in (("plain", calm), ("held up", noisy)):
        happened = sum(told["happened"] for told in outcomes.values())
        reported = sum(told["reported"] for told in outcomes.values())
        hit = sum(told["happened"] > 0 for told in outcomes.values())
        alarms = sum(len(told["alarms"]) for told in outcomes.values())
        print(
            f"\n{what}: tasks were stuck in {happened} runs of {hit} kernels; reported in {reported}, and {alarms} more"
        )


def print_others(kernels: dict[str, Any]) -> None:
    print("\n| kernel | the bug | schedules | failure | switches |")
    print("|---|---|--:|---|---|")
    for name in in_order(name for name, kernel in kernels.items() if not kernel.blocks):
        schedules, kind = explored(kernels[name])
        switches = "between lines too" if kernels[name].lines else "at calls"
        print(f"| {link(name)} | {BUGS[name]} | {schedules} | {kind} | {switches} |")


def print_fixed(kernels: dict[str, Any], times: int) -> None:
    names = in_order(kernels)
    for options in (["--fixed"], ["--fixed", "--noise"]):
        outcomes = plain_runs(names, times, *options)
        alarms = sum(len(told["alarms"]) + told["reported"] for told in outcomes.values())
        print(f"\n{times * len(names)} runs of fixed forms ({' '.join(options)}): {alarms} reports")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="plain runs of each kernel")
    parser.add_argument("names", nargs="*", help="kernels, as in 'etcd 5509'; all, if none is named")
    args = parser.parse_args()
    sys.path.insert(0, str(GOKER))
    for path in sorted((GOKER / "kernels").glob("*.py")):
        import_module(f"kernels.{path.stem}")
    from kernels.registry import KERNELS

    kernels = {name: KERNELS[name] for name in args.names or KERNELS}
    print_blocking(kernels, args.runs)
    print_others(kernels)
    print_fixed(kernels, args.runs)


if __name__ == "__main__":
    main()
