"""The examples run, and print what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

PRINTED = {
    "done.py": """\
1. done channel: received [0, 1, 2]
1. done channel: the worker has stopped
2. the mistake: the call has been waited for, and nobody wants it
3. the fix: gone before the answer
3. the fix: the call has ended by itself, with answer
4. context: gone before the answer
5. a call that supports contexts: it has stopped, and so has its work
""",
    "crawler.py": "40 pages, 1 broken: HTTP Error 500: Internal Server Error\n",
    "etl.py": "19800 rows of 7 items, 128668.00 in all; 200 bad rows\n",
    "llm.py": "60 answers, in order\n",
    "server.py": "",
}


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_example(name: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=50, check=False, cwd=EXAMPLES
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == PRINTED[name]
