"""The examples deadlock as they should, and the documentation shows what is said of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("click", reason="the command line is an extra")

from programs import penstock

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples" / "deadlocks").glob("*.py"))
SHOWN = re.findall(r"```text (\w+\.py)\n(.*?)```", (ROOT / "docs" / "deadlocks.md").read_text("utf-8"), re.DOTALL)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all asleep is known by itself on Linux alone")


def plain(text: str) -> list[str]:
    """The lines, without what differs from run to run: times, the number of a name, and where the examples are."""
    text = text.replace(f"{ROOT}/", "")
    text = re.sub(r" for \d+\.\d s", " for a while", text)
    return [re.sub(r" \(\d\)", "", line) for line in text.splitlines() if line]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    """It ends with exit code 2, or lists its leak; and each line that the documentation shows is said."""
    done = penstock("run", f"examples/deadlocks/{name}", cwd=ROOT)
    if name == "producer.py":
        assert (done.returncode, done.stdout) == (0, "64\n")
    else:
        assert done.returncode == 2
        assert "DeadlockError" in done.stderr
    shown = [line for file, block in SHOWN for line in plain(block) if file == name]
    assert shown
    said = plain(done.stderr)
    assert [line for line in shown if line not in said] == []
