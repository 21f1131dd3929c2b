"""The same `pmap` line on this machine's threads and on a Dask cluster.

    pip install "penstock[dask]"
    python examples/cluster.py [SCHEDULER]

Without the address of a scheduler it starts a small cluster on this machine.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from distributed import Client, LocalCluster

from penstock import pmap

if TYPE_CHECKING:
    from concurrent.futures import Executor

NUMBERS = 2000


def steps(number: int) -> int:
    """How many steps it takes from a number to 1, halving the even and taking 3n + 1 of the odd."""
    count = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        count += 1
    return count


def longest(executor: Executor | None) -> int:
    """The number that takes most."""
    most = found = 0
    for number, count in enumerate(pmap(steps, range(1, NUMBERS), limit=4, on=executor), 1):
        if count > most:
            most, found = count, number
    return found


def main() -> None:
    """Both."""
    print("threads:", longest(None))
    if len(sys.argv) > 1:
        with Client(sys.argv[1]) as client:
            print("cluster:", longest(client.get_executor(pure=False)))
        return
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print("cluster:", longest(client.get_executor(pure=False)))


if __name__ == "__main__":
    main()
