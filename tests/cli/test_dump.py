"""`penstock dump`: a report of a running process, asked for from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("click", reason="the command line is an extra")

from programs import LIMIT, penstock, start_program

from penstock.deadlock import asking, places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sockets in the file system")

WATCHED = """
import time
from penstock import Channel, go
from penstock.deadlock import watch
watch()
task = go(Channel(name="forgotten").recv)
time.sleep(0.1)
print("ready")
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files of our own, for us and for what we start."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@contextmanager
def running(source: str) -> Iterator[subprocess.Popen[str]]:
    with start_program(source) as process:
        try:
            yield process
        finally:
            process.kill()
            process.communicate(timeout=LIMIT)


def test_a_process_that_watches() -> None:
    """As text, as JSON, as Mermaid and as SVG; as often as one likes."""
    with running(WATCHED + "time.sleep(60)") as process:
        for _ in range(2):
            done = penstock("dump", process.pid)
            assert (done.returncode, done.stderr) == (0, "")
            assert "waits to receive from channel forgotten" in done.stdout
        (task,) = json.loads(penstock("dump", "--json", process.pid).stdout)["tasks"]
        assert task["operation"] == "Channel.recv"
        assert penstock("dump", "--mermaid", process.pid).stdout.startswith("flowchart")
        assert "<svg" in penstock("dump", "--svg", process.pid).stdout


def test_main_thread_in_c_code() -> None:
    """It is inside a C function that lets others run, and handles no signals."""
    with running(WATCHED + "import ctypes\nctypes.CDLL(None).sleep(60)") as process:
        assert "channel forgotten" in penstock("dump", process.pid).stdout


def test_a_process_that_penstock_run_has_started(tmp_path: Path) -> None:
    """It watches by itself."""
    (tmp_path / "script.py").write_text(
        "import time\nfrom penstock import *\ntask = go(Channel(name='forgotten').recv)\n"
        "time.sleep(0.1)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "penstock", "run", "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        done = penstock("dump", process.pid)
        process.kill()
    assert "channel forgotten" in done.stdout


def refused(process: object, told: str) -> None:
    done = penstock("dump", process)
    assert done.returncode == 1
    assert done.stdout == ""
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_no_such_process() -> None:
    """A number that nobody has."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    refused(child.pid, f"there is no process {child.pid}")


@pytest.mark.parametrize("number", ["0", "-1", "x"])
def test_what_is_no_process(number: str) -> None:
    """Not a number, or none that a process can have."""
    done = penstock("dump", "--", number)
    assert done.returncode == 2
    assert "Usage: penstock dump" in done.stderr


READY = "print('ready')\n"


@pytest.mark.parametrize(
    "source",
    [
        f"{READY}import time\n",
        f"import time, penstock\n{READY}",
        f"import time\nfrom penstock.deadlock import watch, unwatch\nwatch()\nunwatch()\n{READY}",
    ],
)
def test_a_process_that_does_not_watch(source: str) -> None:
    """It is said what to do."""
    with running(f"{source}time.sleep(60)") as process:
        refused(process.pid, "does not watch for deadlocks; start it with 'penstock run', or call penstock.deadlock")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser can be somebody else")
def test_a_process_of_another_user() -> None:
    """Only its own user may ask."""
    nobody = 65534
    with running("import time\nprint('ready')\ntime.sleep(60)") as process:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setuid(nobody)
                asking.ask(process.pid, "text")
            except asking.CannotAskError as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with open(reader, encoding="utf-8") as told:  # noqa: PTH123  a descriptor
            assert told.read() == f"process {process.pid} is another user's"


def test_what_a_killed_process_has_left(temporary: Path) -> None:
    """A socket that nobody serves, also under a number that another process has now."""
    with running(WATCHED + "time.sleep(60)") as process:
        place = temporary / f"penstock-{os.geteuid()}" / str(process.pid)
        assert place.exists()
        assert place.parent.stat().st_mode & 0o777 == 0o700
        process.kill()
        process.wait()
        refused(process.pid, "there is no process")
        assert place.exists()
        place.rename(place.with_name(str(os.getpid())))
    refused(os.getpid(), "does not watch")
    with running(WATCHED + "time.sleep(60)") as process:
        assert "channel forgotten" in penstock("dump", process.pid).stdout


def test_it_is_removed_at_the_end(temporary: Path) -> None:
    """A process that ends by itself leaves nothing behind; the next one cleans up after those that were killed."""
    with running(WATCHED + "time.sleep(60)") as process:
        process.kill()
    place = temporary / f"penstock-{os.geteuid()}"
    assert [path.name for path in place.iterdir()] == [str(process.pid)]
    with start_program(WATCHED) as process:
        assert process.wait(LIMIT) == 0
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("trap", ["link", "open to all"])
def test_a_directory_that_is_not_safe(temporary: Path, trap: str) -> None:
    """Neither served from nor asked at; the program that watches goes on."""
    place = temporary / f"penstock-{os.geteuid()}"
    if trap == "link":
        (temporary / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(temporary / "elsewhere")
    else:
        place.mkdir()
        place.chmod(0o755)
    with running(WATCHED + "time.sleep(60)") as process:
        done = penstock("dump", process.pid)
        assert done.returncode == 1
        assert f"not asking process {process.pid}: {place}" in done.stderr
        assert process.poll() is None
    assert list(place.iterdir()) == []


def test_a_link_instead_of_a_socket(temporary: Path) -> None:
    """It might lead to somebody else's."""
    place = places.own_directory() / str(os.getpid())
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(temporary / "other"))
        place.symlink_to(temporary / "other")
        with pytest.raises(asking.CannotAskError, match="is not a socket"):
            asking.ask(os.getpid(), "text")


def test_a_process_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped: told after a while."""
    monkeypatch.setattr(asking, "PATIENCE", 0.5)
    with running(WATCHED + "time.sleep(60)") as process:
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(asking.CannotAskError, match=r"did not answer within 0\.5 seconds"):
                asking.ask(process.pid, "text")
        finally:
            process.send_signal(signal.SIGCONT)


def test_one_who_says_nothing_holds_up_nobody_for_long(temporary: Path) -> None:
    """Whoever connects and keeps silent is sent away."""
    with running(WATCHED + "time.sleep(60)") as process, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(temporary / f"penstock-{os.geteuid()}" / str(process.pid)))
        assert "channel forgotten" in asking.ask(process.pid, "text")
        silent.settimeout(LIMIT)
        assert silent.recv(1) == b""


def test_forked_children_answer_for_themselves() -> None:
    """Parent and child are watched, each with its own report."""
    source = WATCHED.replace('print("ready")', "") + (
        "import os, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    mine = go(Channel(name='of the child').recv)\n"
        "time.sleep(0.3)\n"
        "if child:\n"
        "    print('ready')\n"
        "    print(child)\n"
        "time.sleep(60)\n"
    )
    with running(source) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            of_child = asking.ask(child, "text")
            of_parent = asking.ask(process.pid, "text")
        finally:
            os.kill(child, signal.SIGKILL)
    assert "of the child" in of_child
    assert "forgotten" not in of_child
    assert "forgotten" in of_parent
    assert "of the child" not in of_parent


def test_asked_while_it_ends() -> None:
    """Whoever asks gets a report or a sentence, at any instant."""
    with start_program(WATCHED + "time.sleep(0.5)") as process:
        end = time.monotonic() + LIMIT
        while process.poll() is None and time.monotonic() < end:
            try:
                assert "channel forgotten" in asking.ask(process.pid, "text")
            except asking.CannotAskError as error:
                assert str(process.pid) in str(error)
        assert process.returncode == 0
