"""What docs/exploring.md prints is what is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parent.parent.parent / "docs" / "exploring.md").read_text(encoding="utf-8")


def test_the_first_example_prints_what_stands_below_it(tmp_path: Path) -> None:
    """Letter for letter."""
    program, printed = re.findall(r"```python\n(.*?)```.*?```text transfer.py\n(.*?)```", PAGE, re.DOTALL)[0]
    (tmp_path / "transfer.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "transfer.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed
