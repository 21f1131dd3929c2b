"""The README's snippets run, and print what their comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_snippets() -> None:
    assert len(SNIPPETS) >= 3


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet(number: int) -> None:
    snippet = SNIPPETS[number]
    done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    promised = re.findall(r"^ *print\(.*\) +# ([\d\[].*)$", snippet, re.MULTILINE)
    assert [line for line in promised if line not in printed] == []
