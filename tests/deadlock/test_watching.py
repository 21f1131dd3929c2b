"""Watching is switched on and off as a whole."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from programs import run_program

from penstock import Channel, Mutex, deadlock
from penstock.deadlock import asleep, naming, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_stays_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    deadlock.unwatch()


def classes() -> list[dict[str, Any]]:
    return [dict(cls.__dict__) for cls in (Channel, Mutex)]


def watchers() -> list[str]:
    return sorted(
        thread.name for thread in threading.enumerate() if thread.name in ("penstock-watcher", "penstock-dump")
    )


def test_unwatch_leaves_nothing_behind() -> None:
    """Neither threads, nor wrapped methods, nor a signal handler; both may be called again."""
    before = classes()
    handler = signal.getsignal(signal.SIGQUIT) if hasattr(signal, "SIGQUIT") else None
    for _ in range(2):
        deadlock.watch()
        deadlock.watch()
        assert watchers()
        assert classes() != before
        deadlock.unwatch()
        deadlock.unwatch()
        assert classes() == before
        assert not asleep.SETTINGS.watching
        assert not asleep.SETTINGS.own_handlers
        if handler is not None:
            assert signal.getsignal(signal.SIGQUIT) == handler
    # The threads end as well: every test is checked for that.


def test_stopped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever serves may be told to stop before he runs, and leaves no socket open."""
    later: list[Callable[[], object]] = []
    monkeypatch.setattr(serving, "start_daemon", lambda function, _name: later.append(function))
    server = serving.Server()
    server.start()
    listener = server._socket
    server.stop()
    for serve in later:
        serve()
    assert listener is None or listener.fileno() == -1


def test_parts_can_be_left_out() -> None:
    """Sites, lock order and the signal are each a matter of choice, and can be added later."""
    deadlock.watch(sites=False, lock_order=False, signals=False)
    assert not naming.made_at(Channel())
    assert "acquire" not in Mutex.__dict__
    assert not asleep.SETTINGS.own_handlers
    deadlock.watch()
    assert naming.made_at(Channel())
    assert "acquire" in Mutex.__dict__


def test_in_another_thread_everything_but_the_signal() -> None:
    """Only the main thread may set a handler."""
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=deadlock.watch)
    thread.start()
    thread.join()
    assert watchers()
    assert signal.getsignal(signal.SIGINT) == before
    deadlock.unwatch()


@pytest.mark.skipif(not hasattr(signal, "SIGQUIT"), reason="no SIGQUIT here")
def test_sigquit_prints_and_the_programs_own_handler_is_called_as_well() -> None:
    """On the standard error of the process, whatever `sys.stderr` is; and again, and once more."""
    done = run_program("""
        import io, os, signal, sys, time
        from penstock import Channel, go
        from penstock.deadlock import watch
        signal.signal(signal.SIGQUIT, lambda *_: print("own"))
        watch()
        sys.stderr = io.StringIO()
        task = go(Channel(name="silent").recv)
        time.sleep(0.1)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGQUIT)
            time.sleep(0.5)
    """)
    assert (done.returncode, done.stdout) == (0, "own\n" * 3)
    assert done.stderr.count("channel silent") == 3


@pytest.mark.skipif(not hasattr(signal, "SIGQUIT"), reason="no SIGQUIT here")
def test_sigquit_while_main_is_parked() -> None:
    """The report shows where main is, and main stays there."""
    done = run_program("""
        import os, signal, threading, time
        from penstock import Channel
        from penstock.deadlock import watch
        watch()
        channel = Channel(name="mine")

        def other():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGQUIT)
            time.sleep(0.7)
            channel.send(1)

        threading.Thread(target=other).start()
        print(channel.recv())
    """)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "main thread: in Channel.recv" in done.stderr
    assert "in <module>" in done.stderr


def test_it_does_not_keep_the_process() -> None:
    """A program that watches ends as it does otherwise."""
    done = run_program("from penstock.deadlock import watch\nwatch()\nprint('end')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.skipif(not hasattr(signal, "sigwait"), reason="a matter of POSIX")
def test_signals_that_the_program_waits_for() -> None:
    """Blocked by the program's threads, a signal must not meet one of ours, where it would end the process."""
    source = """
        import signal, threading
        from penstock.deadlock import watch
        watch()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        waits = threading.Thread(target=lambda: print(signal.sigwait([signal.SIGALRM]) == signal.SIGALRM))
        waits.start()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        waits.join()
    """
    done = run_program(source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_children_are_watched() -> None:
    """The child finds its own deadlock, in its own loop."""
    done = run_program("""
        import asyncio, os, sys, warnings
        from penstock import *
        from penstock.deadlock import watch
        warnings.simplefilter("ignore")
        watch()

        async def main():
            try:
                await Channel().arecv()
            except DeadlockError:
                print("deadlock", flush=True)

        child = os.fork()
        if not child:
            asyncio.run(main())
            os._exit(0)
        os.waitpid(child, 0)
        print("parent")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "deadlock\nparent\n", "")


def test_without_a_place_to_be_asked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a report cannot be asked for; everything else is on."""
    (tmp_path / f"penstock-{os.geteuid()}").write_text("in the way")
    deadlock.watch()
    assert asleep.SETTINGS.watching
    assert watchers() == ["penstock-watcher"]
    monkeypatch.undo()


def test_modules_that_are_being_imported() -> None:
    """A look meets asyncio half imported: it waits for more."""
    done = run_program("""
        import sys, time, types
        from penstock import *
        from penstock.deadlock import watch
        sys.modules["asyncio"] = types.ModuleType("asyncio")
        sys.modules["concurrent.futures.thread"] = types.ModuleType("concurrent.futures.thread")
        watch()
        time.sleep(1.2)
    """)
    assert (done.returncode, done.stderr) == (0, "")
