"""`penstock run`: any program, as `python` runs it, and watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("click", reason="the command line is an extra")

from programs import LIMIT, environment, penstock

if TYPE_CHECKING:
    from pathlib import Path

    Done = subprocess.CompletedProcess[str]

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
linux = pytest.mark.skipif(sys.platform != "linux", reason="threads that are not Python's are seen on Linux alone")


def run(directory: Path, source: str, *arguments: str) -> Done:
    """Run a script."""
    (directory / "script.py").write_text(dedent(source))
    return penstock("run", "script.py", *arguments, cwd=directory)


def python(directory: Path, *arguments: str) -> Done:
    """The same by the interpreter itself."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=directory,
        env=environment(),
    )


TELLS = """
import os, sys
print(__name__, __file__, __doc__, __package__, __spec__ is None, type(__loader__).__name__)
print(sys.argv, sys.path[0], sys.modules["__main__"].__dict__ is globals())
print(sorted(name for name in globals() if name not in ("__annotations__", "__conditional_annotations__")))
"""


def test_a_script_finds_what_python_gives_it(tmp_path: Path) -> None:
    """Arguments, `__main__`, its path, and options that look like ours."""
    (tmp_path / "script.py").write_text(TELLS)
    arguments = ("script.py", "-m", "--help", "x", "-")
    done = penstock("run", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == python(tmp_path, *arguments).stdout.splitlines()[:2]


def test_a_module_finds_what_python_gives_it(tmp_path: Path) -> None:
    """`-m` with a module, a package, and a module in a package."""
    package = tmp_path / "parcel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(f"from parcel import inner{TELLS}")
    (package / "inner.py").write_text(TELLS)
    for name in ("parcel", "parcel.inner"):
        done = penstock("run", "-m", name, "-m", "x", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[:2] == python(tmp_path, "-m", name, "-m", "x").stdout.splitlines()[:2]


def test_directories_and_archives(tmp_path: Path) -> None:
    """With a `__main__` in it."""
    source = "import sys, beside\nprint(sys.argv, sys.path[0], beside.x)"
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "__main__.py").write_text(source)
    (tmp_path / "place" / "beside.py").write_text("x = 1")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(tmp_path / "place" / "__main__.py", "__main__.py")
        archive.write(tmp_path / "place" / "beside.py", "beside.py")
    for name in ("place", "archive.zip"):
        done = penstock("run", name, "y", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == python(tmp_path, name, "y").stdout


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit",
        "import sys; sys.exit(7)",
        "import sys; sys.exit('a message')",
        "def fail():\n    raise ValueError('wrong')\nfail()",
        "raise ExceptionGroup('several', [ValueError('one'), KeyError('two')])",
        "x = (",
        "import sys\nsys.excepthook = lambda kind, *_: print('hooked', kind.__name__)\n1 / 0",
        "import atexit; atexit.register(print, 'at exit')\nprint('first')",
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()",
        "import os; os._exit(5)",
    ],
)
def test_it_ends_as_under_python(tmp_path: Path, source: str) -> None:
    """Exit code, output, and an uncaught error's traceback, which has none of our frames."""
    done = run(tmp_path, source)
    expected = python(tmp_path, "script.py")
    assert (done.returncode, done.stdout, done.stderr) == (expected.returncode, expected.stdout, expected.stderr)


@posix
def test_ctrl_c(tmp_path: Path) -> None:
    """The program's traceback, and an end by the signal, as the interpreter's."""
    (tmp_path / "script.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('never')")
    script = os.path.join(os.path.dirname(sys.executable), "penstock")  # noqa: PTH118, PTH120
    if not os.path.exists(script):  # noqa: PTH110
        pytest.skip("the command has not been installed")
    done = subprocess.run(
        [sys.executable, script, "run", "script.py"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=tmp_path,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert done.returncode == -signal.SIGINT
    assert done.stdout == ""
    assert done.stderr.startswith("Traceback (most recent call last):\n  File ")
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert "cli" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["gone.py"], "cannot run 'gone.py': there is no such file"),
        (["-m", "gone.module"], "cannot run 'gone.module': there is no module 'gone'"),
        (["-m", "email"], "cannot run 'email': it is a package without a __main__"),
        (["."], "cannot run '.': it has no __main__"),
        ([], "Missing argument 'PROGRAM'"),
        (["-x", "script.py"], "no such file"),
    ],
)
def test_nothing_to_run(tmp_path: Path, arguments: list[str], told: str) -> None:
    """A sentence and exit code 2."""
    done = penstock("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@linux
def test_a_deadlock_ends_it_with_a_report(tmp_path: Path) -> None:
    """Exit code 2; where things were made is in the report, and nothing of ours."""
    done = run(
        tmp_path,
        """
        from penstock import Channel
        channel = Channel()
        channel.recv()
        """,
    )
    assert done.returncode == 2
    assert "DeadlockError: all tasks are asleep" in done.stderr
    assert "channel made at script.py:3" in done.stderr
    assert done.stderr.count("penstock/cli") == 0
    assert done.stderr.count("runpy") == 0


@linux
@pytest.mark.parametrize("catching", ["DeadlockError", "RuntimeError"])
def test_a_deadlock_that_is_caught(tmp_path: Path, catching: str) -> None:
    """Then the program goes on, and ends as it likes."""
    source = f"from penstock import *\ntry: Channel().recv()\nexcept {catching}: print('caught')"
    done = run(tmp_path, source)
    assert (done.returncode, done.stdout) == (0, "caught\n")


@linux
def test_a_deadlock_in_asyncio(tmp_path: Path) -> None:
    """Also inside an exception group."""
    done = run(
        tmp_path,
        """
        import asyncio
        from penstock import Channel

        async def main():
            async with asyncio.TaskGroup() as group:
                group.create_task(Channel().asend(1))
                await Channel().arecv()

        asyncio.run(main())
        """,
    )
    assert done.returncode == 2
    assert "Channel.asend" in done.stderr
    assert "Channel.arecv" in done.stderr


@linux
@pytest.mark.parametrize(
    "end",
    [
        "",
        "thread.join()",
        "threading.Event().wait()",
        "import queue; queue.Queue().get()",
    ],
)
def test_where_nothing_can_be_raised(tmp_path: Path, end: str) -> None:
    """Main has ended, or sleeps in the standard library, and the others sleep in ours: the process ends."""
    source = f"""
        import threading
        from penstock import Channel
        thread = threading.Thread(target=Channel().recv)
        thread.start()
        print("so far")
        {end}
    """
    done = run(tmp_path, source)
    assert done.returncode == 2
    assert done.stdout == "so far\n"
    assert "all tasks are asleep" in done.stderr
    assert "Channel.recv" in done.stderr


def test_leaks_are_listed_and_do_not_change_the_exit_code(tmp_path: Path) -> None:
    """Where the task is parked, and where it was started."""
    source = """
        import sys
        from penstock import Channel, go

        def leak():
            Channel(name="left").recv()

        go(leak)
        sys.exit(3)
    """
    done = run(tmp_path, source)
    assert done.returncode == 3
    assert "penstock: 1 task is leaked" in done.stderr
    assert "channel left" in done.stderr
    assert "script.py:8, in <module>" in done.stderr


def test_locks_in_different_orders_are_told(tmp_path: Path) -> None:
    """The library's and `threading`'s, although nothing hung."""
    source = """
        import threading
        from penstock import Mutex
        first, second = Mutex(), threading.Lock()
        with first, second: pass
        with second, first: pass
    """
    done = run(tmp_path, source)
    assert done.returncode == 0
    assert "penstock: 2 locks are taken in different orders" in done.stderr
    assert "mutex #1 made at script.py:4" in done.stderr
    assert "threading.Lock #2 made at script.py:4" in done.stderr


@posix
@pytest.mark.skipif(not hasattr(signal, "SIGQUIT"), reason="no SIGQUIT here")
def test_ctrl_backslash_prints_a_report_and_goes_on(tmp_path: Path) -> None:
    """On standard error."""
    source = """
        import os, signal, time
        from penstock import Channel, go
        channel = Channel(name="slow")
        task = go(channel.recv)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGQUIT)
        time.sleep(1)
        channel.send(1)
        print(task.result())
    """
    done = run(tmp_path, source)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "waits to receive from channel slow" in done.stderr


def test_processes_of_multiprocessing(tmp_path: Path) -> None:
    """A spawned child imports the program's main module, as under Python."""
    source = """
        import multiprocessing

        def double(n):
            return 2 * n

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [1, 2]))
    """
    done = run(tmp_path, source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2, 4]\n", "")
