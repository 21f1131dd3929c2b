"""The examples run, and print what they say."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

PRINTED = {
    "done.py": """\
with a done channel:
request timeout
the common mistake:
request timeout
the fix:
request timeout
request canceled
with a context:
request timeout
request canceled: context cancelled
with a call that takes a context:
request timeout
request error: context cancelled
""",
    "usage.py": """\
fan-in: [0, 1, 2, 10, 11, 12, 20, 21, 22]
fan-out: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
sharding: 1 2 3 ['alpha', 'beta', 'gamma']
bounded parallelism: 20 items, 3 at once
backpressure: 200 done | 429 too many requests
""",
    "cluster.py": "threads: 1161\ncluster: 1161\n",
    "crawler.py": "40 pages, 1 broken: HTTP Error 500: Internal Server Error\n",
    "etl.py": "19800 rows of 7 items, 128668.00 in all; 200 bad rows\n",
    "llm.py": "60 answers, in order\n",
    "server.py": "",
}


NEEDED = {"cluster.py": "distributed", "llm.py": "tenacity"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_example(name: str) -> None:
    if name in NEEDED and find_spec(NEEDED[name]) is None:
        pytest.skip(f"{NEEDED[name]} is not installed")
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=100, check=False, cwd=EXAMPLES
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == PRINTED[name]
