"""The house: who may lock, park and wake (H2), what each file says of itself (H5), and who knows asyncio (H4)."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(penstock.__file__).parent
KERNEL = sorted((PACKAGE / "_kernel").glob("*.py"))
TO_BE_COMPILED = [path for path in KERNEL if "import cython\n" in path.read_text(encoding="utf-8")]
ABOVE = sorted(path for path in PACKAGE.rglob("*.py") if "_kernel" not in path.parts)

# What locks, parks or wakes, or is made for it.
FORBIDDEN_MODULES = {"threading", "_thread", "queue", "multiprocessing", "concurrent", "asyncio", "selectors"}
# Dictionaries whose type Cython does not know, so that it calls their own method.
OF_THE_INTERPRETER = {"sys.modules", "above.f_locals", "threading._active"}
FORBIDDEN_NAMES = {"lock_take", "lock_drop", "wake_all", "park", "Lock", "Parker"}


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, without what only type checkers see."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from running(child)


def imports(tree: ast.AST) -> set[tuple[str, str]]:
    """Pairs of a module and a name imported from it; "" for the module itself."""
    found = set()
    for node in running(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(node.module or "", alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_above_the_kernel_nobody_locks_parks_or_wakes(path: Path) -> None:
    """They compose operations of the kernel (H2)."""
    for module, name in imports(ast.parse(path.read_text(encoding="utf-8"))):
        assert module.partition(".")[0] not in FORBIDDEN_MODULES, f"{path.name} imports {module}"
        assert name not in FORBIDDEN_NAMES, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", KERNEL, ids=lambda path: path.name)
def test_only_loops_know_asyncio(path: Path) -> None:
    """Parking an asyncio task is one implementation among others (H4)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {module.partition(".")[0] for module, _ in imports(tree)}
    assert ("asyncio" in modules) == (path.name in {"loops.py", "simulated_loop.py", "virtual_loop.py"})


@pytest.mark.parametrize("path", TO_BE_COMPILED, ids=lambda path: path.name)
def test_dictionaries_are_asked_in_one_step(path: Path) -> None:
    """Compiled by Cython, `get` of a dictionary takes its reference after the lookup: free-threaded, too late."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            asked = ast.unparse(node.func.value)
            assert asked in OF_THE_INTERPRETER, f"{path.name}:{node.lineno}: use dict_get({asked}, key, default)"


@pytest.mark.parametrize("path", KERNEL, ids=lambda path: path.name)
def test_kernel_files_that_lock_state_their_invariants(path: Path) -> None:
    """Invariants stand at the top of each file that takes a lock (H5)."""
    source = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert docstring
    if "lock_take(" in source and path.name != "interpreted.py":
        assert "nvariants" in docstring, f"{path.name} takes locks and states no invariants"


def test_the_core_imports_nothing_foreign() -> None:
    """No run-time dependency; the command line is an extra and not imported by the package."""
    foreign = set()
    for path in [*KERNEL, *(path for path in ABOVE if "cli" not in path.parts)]:
        for module, _ in imports(ast.parse(path.read_text(encoding="utf-8"))):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names | {"penstock", "cython", "_interpreters", "_xxsubinterpreters", ""}:
                foreign.add((path.name, top))
    assert foreign == {
        ("progress.py", "rich"),  # What draws on a terminal, imported when there is one.
        ("plugin.py", "pytest"),
        ("plugin.py", "_pytest"),
    }


def test_time_chance_and_threads_come_through_the_seam() -> None:
    """Nobody but the real runtime, and its C, looks at the clock, draws numbers or starts threads (H4).

    `foreign`, `foreign_locks` and `foreign_time` stand for threads, locks and clocks that are not the library's.
    """
    for path in KERNEL:
        if path.name in {
            "threads.py",
            "interpreted.py",
            "shadow.py",
            "foreign.py",
            "foreign_locks.py",
            "foreign_time.py",
        }:
            continue
        found = imports(ast.parse(path.read_text(encoding="utf-8")))
        names = {name for module, name in found if module.endswith("interpreted")}
        assert not names & {"monotonic", "random_below", "parker_park"}, path.name
        assert not {module for module, _ in found} & {"time", "random", "threading"}, path.name


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_above_the_kernel_nobody_looks_at_the_real_clock(path: Path) -> None:
    """Time above the kernel is the kernel's, so that it can be simulated (H4)."""
    found = imports(ast.parse(path.read_text(encoding="utf-8")))
    clocks = {(module, name) for module, name in found if module in {"time", "datetime", "timeit"}}
    if path.name == "executors.py":
        assert clocks == {("time", "perf_counter")}  # What an item costs where the executor works: another process.
    else:
        assert not clocks, path.name


@pytest.mark.parametrize("path", [*KERNEL, *ABOVE], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_have_one_subject(path: Path) -> None:
    """Short enough to be read."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < 750
