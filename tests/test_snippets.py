"""The snippets of the README and of the documentation run, and print what their comments say.

What is marked `python` is a program; those of a page marked `python conftest.py` and `python test_….py` are files in a
folder of tests; what is marked otherwise is no Python.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^ *```(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
FENCES = [
    (path.stem, mark, text)
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for mark, text in FENCE.findall(path.read_text(encoding="utf-8"))
]
SCHEDULER = "scheduler:8786"


def programs(*, on_cluster: bool) -> list[object]:
    return [
        pytest.param(text, id=f"{page}-{number}")
        for number, (page, mark, text) in enumerate(FENCES)
        if mark == "python" and (SCHEDULER in text) == on_cluster
    ]


def python(*arguments: str, cwd: Path | None = None) -> str:
    """What Python prints, without a complaint."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=50, check=False, cwd=cwd
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def check(snippet: str) -> None:
    printed = python("-c", snippet).splitlines()
    promised = re.findall(r"^ *print\(.*\) +# ([\d\[].*)$", snippet, re.MULTILINE)
    assert [line for line in promised if line not in printed] == []


def is_program(text: str) -> bool:
    """Is it Python that does something? A single word is Python, too."""
    try:
        with warnings.catch_warnings(action="ignore"):
            nodes = list(ast.walk(ast.parse(dedent(text))))
    except SyntaxError:
        return False
    return any(
        isinstance(node, ast.Call) or (isinstance(node, ast.stmt) and not isinstance(node, ast.Expr)) for node in nodes
    )


def test_there_are_snippets() -> None:
    assert len(programs(on_cluster=False)) >= 20
    assert len(programs(on_cluster=True)) == 1


@pytest.mark.parametrize("snippet", programs(on_cluster=False))
def test_program(snippet: str) -> None:
    check(snippet)


# What Dask warns of is its own, and so are the threads that it keeps.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(120)
@pytest.mark.others_keep_threads
@pytest.mark.parametrize("snippet", programs(on_cluster=True))
def test_program_on_a_cluster(snippet: str) -> None:
    library = pytest.importorskip("distributed")
    with library.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        check(snippet.replace(SCHEDULER, cluster.scheduler_address))


@pytest.mark.parametrize("page", sorted({page for page, mark, _ in FENCES if mark.startswith("python ")}))
def test_files_for_pytest(page: str, tmp_path: Path) -> None:
    files = [(mark.split()[1], text) for of, mark, text in FENCES if of == page and mark.startswith("python ")]
    for name, text in files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    printed = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert f"{sum(text.count('def test_') for _, text in files)} passed" in printed


def test_no_other_fence_holds_a_program() -> None:
    others = [(page, text) for page, mark, text in FENCES if mark != "python" and not mark.startswith("python ")]
    assert [f"{page}: {text}" for page, text in others if is_program(text)] == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("from penstock import go\n", True),
        ("  for value in values:\n      ...\n", True),
        ("@mark\ndef test(): ...\n", True),
        ("print(1)\n", True),
        ("patterns\n", False),
        ("python benchmarks/goker.py --runs 20\n", False),
        ("deadlock: 3 tasks are parked for ever: main, transfer\n", False),
    ],
)
def test_what_a_program_is(text: str, *, is_one: bool) -> None:
    assert is_program(text) == is_one
