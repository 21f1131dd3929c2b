"""What concerns the whole process: Ctrl-C, fork, the interpreter's exit, the GIL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import penstock

LIMIT = 40

compiled = pytest.mark.skipif(
    not penstock.COMPILED, reason="interpreted, a signal handler can run between any two instructions of the kernel"
)
posix = pytest.mark.skipif(os.name != "posix", reason="signals and forks as POSIX has them")

HEADER = """
import asyncio, gc, os, signal, sys, threading, time
from penstock import *
"""


def start(program: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "faulthandler", *options, "-c", HEADER + textwrap.dedent(program)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=os.name == "posix"
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGABRT)  # The children too: they hold the pipes open.
        else:
            process.kill()
        out, err = process.communicate()
        pytest.fail(f"hung; {out}\n{err}")
    return process.returncode, out, err


def run(program: str, *options: str) -> str:
    code, out, err = finish(start(program, *options))
    assert code == 0, err
    return out.strip()


def interrupt_when_ready(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Ctrl-C as soon as it has printed a line, and a moment for it to park."""
    assert process.stdout is not None
    assert process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    return finish(process)


PARKED = {
    "recv": "Channel().recv()",
    "send": "Channel().send(1)",
    "select": "select(Channel(), Channel().sending(1))",
    "select of nothing": "select()",
    "sleep": "sleep(1000)",
    "acquire": "m = Mutex(); m.acquire(); m.acquire()",
    "semaphore": "Semaphore(0).acquire(0); s = Semaphore(1); s.acquire(); s.acquire()",
    "wait group": "w = WaitGroup(); w.add(1); w.wait()",
    "result": "go(Channel().recv).result()",
    "iteration": "list(Channel())",
    "read lock": "w = RWMutex(); w.acquire_write(); w.acquire_read()",
    "write lock": "w = RWMutex(); w.acquire_read(); w.acquire_write()",
    "condition": "m = Mutex(); m.acquire(); Condition(m).wait()",
    "once": "o = Once(); go(o.do, Channel().recv); sleep(0.05); o.do(int)",
    "call": "call(time.sleep, 1000)",
    "with a deadline": "fail_after(1000).__enter__(); Channel().recv(timeout=500)",
}


@posix
@pytest.mark.parametrize("name", PARKED)
def test_ctrl_c_wakes_a_parked_main_thread(name: str) -> None:
    """KeyboardInterrupt at once, wherever it is parked (C5)."""
    process = start(
        f"print('ready', flush=True)\ntry:\n    {PARKED[name]}\nexcept KeyboardInterrupt:\n    print('out')"
    )
    code, out, err = interrupt_when_ready(process)
    assert (code, out) == (0, "out\n"), err


@posix
def test_ctrl_c_in_a_group_cancels_and_waits() -> None:
    """Leaving a group because of Ctrl-C cancels its members and waits for them (C5)."""
    process = start(
        """
        def member():
            try:
                Channel().recv()
            finally:
                time.sleep(0.1)
                print("member left")
        try:
            with Group() as group:
                group.go(member)
                print("ready", flush=True)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    code, out, err = interrupt_when_ready(process)
    assert (code, out) == (0, "member left\ninterrupted\n"), err


@posix
def test_a_second_ctrl_c_stops_waiting() -> None:
    """A member that does not react is left behind at the second Ctrl-C (C5)."""
    process = start(
        """
        try:
            with Group() as group:
                group.go(time.sleep, 30)
                print("ready", flush=True)
        except KeyboardInterrupt:
            print("left")
        """
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (0, "left\n"), err
    assert time.monotonic() - began < 20


@posix
@pytest.mark.parametrize("handler", ["sys.exit(3)", "raise TimeoutError('alarm')"])
def test_what_a_signal_handler_raises_in_a_group_cancels_and_waits(handler: str) -> None:
    """As Ctrl-C: the members are cancelled and waited for before it leaves the block (T1, C5)."""
    program = f"""
        def handle(*_):
            {handler}
        signal.signal(signal.SIGUSR1, handle)
        ended = []
        def member():
            try:
                print("ready", flush=True)
                Channel().recv()
            finally:
                time.sleep(0.1)
                ended.append(1)
        try:
            with Group() as group:
                group.go(member)
        except* TimeoutError as failures:
            print(failures.exceptions)
        finally:
            print(ended)
        """
    process = start(program)
    assert process.stdout is not None
    assert process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    code, out, err = finish(process)
    if "exit" in handler:
        assert (code, out, err) == (3, "[1]\n", "")
    else:
        assert (code, out, err) == (0, "(TimeoutError('alarm'),)\n[1]\n", "")


@posix
@pytest.mark.parametrize("kind", ["Mutex()", "RWMutex().write()", "RWMutex().read()"])
def test_ctrl_c_while_a_condition_takes_its_lock_again(kind: str) -> None:
    """The lock is held when `wait` raises, and the notification goes to the next (C4, C5)."""
    program = f"""
        lock = {kind}
        outer = lock if isinstance(lock, Mutex) else lock._rw.write()
        condition = Condition(lock)
        woken = Channel()
        def other():
            with lock:
                condition.wait()
            woken.send("other")
        def helper():
            while condition.waiting() < 1:
                time.sleep(0.001)
            go(other)
            while condition.waiting() < 2:
                time.sleep(0.001)
            outer.acquire()
            condition.notify()  # to the main thread, which cannot have the lock yet
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            outer.release()  # nobody else has released it
            said.append("released")
        said = []
        lock.acquire()
        task = go(helper)
        try:
            condition.wait()
        except KeyboardInterrupt:
            lock.release()
            said.append(woken.recv(timeout=20))
        task.result()
        print(sorted(said))
        """
    assert run(program) == "['other', 'released']"


@posix
@compiled
@pytest.mark.parametrize("capacity", [0, 3])
def test_a_storm_of_ctrl_c_loses_nothing(capacity: int) -> None:
    """Interrupted at whatever instant: an operation that raises did not happen (C4, C5).

    A helper process sends the signals. Of a receive that was interrupted just after it returned, nobody can know; so
    the main thread sends, which can be counted: a value is sent if `send` returned.
    """
    out = run(
        f"""
        channel = Channel({capacity})
        received = []
        receiver = threading.Thread(target=lambda: received.extend(channel))
        receiver.start()
        main = threading.main_thread().ident
        stop = threading.Event()
        def storm():
            while not stop.is_set():
                signal.pthread_kill(main, signal.SIGINT)
                time.sleep(0.0005)
        interrupts = 0
        attempts = 0
        unknown = set()
        storming = threading.Thread(target=storm)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        storming.start()
        def interrupt(*_):
            raise KeyboardInterrupt
        sent = []
        try:
            while interrupts < 200 and attempts < 400_000:
                attempts += 1
                number = attempts
                state = "before"
                try:
                    signal.signal(signal.SIGINT, interrupt)
                    channel.send(number)
                    state = "after"
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                except KeyboardInterrupt:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                    interrupts += 1
                    if state == "before":
                        unknown.add(number)  # before the send, in it, or between its return and the next line
                        continue
                sent.append(number)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            stop.set()
            storming.join()
            channel.close()
            receiver.join()
        assert len(received) == len(set(received)), "doubled"
        assert received == sorted(received), "out of order"
        lost = set(sent) - set(received)
        assert not lost, lost
        assert set(received) - set(sent) <= unknown
        print("balanced", interrupts > 0)
        """
    )
    assert out == "balanced True"


@posix
def test_a_signal_handler_that_returns_does_not_end_the_wait() -> None:
    """A handler runs at once, and the operation goes on (PEP 475's rule)."""
    out = run(
        """
        ran = []
        channel = Channel()
        def handler(*_):
            ran.append(time.monotonic())
        signal.signal(signal.SIGUSR1, handler)
        def others():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.3)
            channel.send(time.monotonic())
        threading.Thread(target=others).start()
        sent = channel.recv()
        assert len(ran) == 1 and ran[0] < sent - 0.1, (ran, sent)
        print("ok")
        """
    )
    assert out == "ok"


@posix
@compiled
def test_a_signal_handler_may_use_channels() -> None:
    """A handler calls non-parking operations while the main thread is parked, or inside the kernel (C6)."""
    out = run(
        """
        channel = Channel(1)
        events = Channel(10_000_000)
        signal.signal(signal.SIGALRM, lambda *_: events.send_nowait(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            for _ in range(500):
                events.send_nowait(2)
                channel.send(1)
                channel.recv()
                events.recv_nowait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        events.close()
        print(sum(1 for event in events if event == 1) > 0)
        """
    )
    assert out == "True"


@posix
@pytest.mark.filterwarnings("ignore")
def test_fork() -> None:
    """A child has a usable library: channels, tasks, timers and contexts, in both colours (the fork promise)."""
    out = run(
        """
        import warnings
        warnings.simplefilter("ignore")
        kept = Channel(2)
        kept.send("from before")
        with Group() as group:  # the pool and the timer service are at work
            for _ in range(5):
                group.go(sleep, 0.001)
        ticker = Ticker(0.001)
        ticker.channel.recv()
        waiting = go(Channel().recv_ok)
        child = os.fork()
        if child == 0:
            try:
                assert kept.recv() == "from before"
                assert go(max, 1, 2).result(timeout=10) == 2
                try:
                    with fail_after(0.01):
                        Channel().recv()
                except TimeoutError:
                    pass
                assert after(0.001).recv(timeout=10) > 0
                async def main():
                    channel = Channel()
                    task = go(channel.asend, 5)
                    assert await channel.arecv(timeout=10) == 5
                    await task.aresult(timeout=10)
                asyncio.run(main())
                with Group() as group:
                    channel = Channel()
                    for number in range(10):
                        group.go(channel.send, number)
                    assert sorted(channel.recv(timeout=10) for _ in range(10)) == list(range(10))
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert kept.recv() == "from before"
        waiting.cancel()
        print("ok")
        """
    )
    assert out == "ok"


@posix
@pytest.mark.skipif(penstock.COMPILED, reason="a compiled kernel's locks cannot be held from outside")
def test_a_lock_that_nobody_gives_back_in_the_child_holds_up_no_timer() -> None:
    """A deadline of the parent's whose scope was locked at the fork does not keep the child's timers from expiring."""
    out = run(
        """
        context = Context.background().with_timeout(0.3)
        lock = context._lock = threading.Lock()  # which has no owner that a thread of the child could be taken for
        lock.acquire()
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            later = fail_after(0.5)  # starts the child's service, which meets the parent's deadline first
            later.done.recv_ok()
            os._exit(0)
        lock.release()
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        print("ok")
        """
    )
    assert out == "ok"


@posix
def test_forks_amid_the_traffic() -> None:
    """Forked at whatever instant: no lock of the kernel is held for ever in the child."""
    out = run(
        """
        import warnings
        warnings.simplefilter("ignore")
        shared = Channel(4)
        stop = False
        def traffic():
            while not stop:
                with move_on_after(0.001):
                    select(shared, shared.sending(1), timeout=0.01)
                go(int).result()
        threads = [threading.Thread(target=traffic) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                try:
                    mine = Channel(1)
                    mine.send(1)
                    assert mine.recv() == 1
                    assert go(max, 1, 2).result(timeout=10) == 2
                    with move_on_after(0.001):
                        sleep(100)
                    os._exit(0)
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0, status
            time.sleep(0.003)
        stop = True
        for thread in threads:
            thread.join()
        print("ok")
        """
    )
    assert out == "ok"


@pytest.mark.parametrize(
    "program",
    [
        "go(Channel().recv)",
        "go(sleep, 1000)",
        "go(time.sleep, 1000)",
        "ticker = Ticker(0.001); ticker.channel.recv()",
        "context = Context.background().with_timeout(1000)",
        "context = Context.background().with_cancel(); context.after_func(print); keep = [context]",
        "threading.Thread(target=Channel().recv, daemon=True).start(); time.sleep(0.05)",
        "keep = [go(int) for _ in range(50)]",
    ],
)
def test_nothing_holds_up_the_exit(program: str) -> None:
    """Whatever is parked, at work, idle or armed, the interpreter ends at once and quietly (T3)."""
    began = time.monotonic()
    code, _, err = finish(start(program))
    assert (code, err) == (0, "")
    assert time.monotonic() - began < 15


def test_idle_threads_end() -> None:
    """Idle threads end by themselves (T3)."""
    out = run(
        """
        import penstock._kernel.threads as threads
        threads.IDLE_SECONDS = 0.05
        with Group() as group:
            for _ in range(20):
                group.go(time.sleep, 0.01)
        before = threading.active_count()
        deadline = time.monotonic() + 20
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        print(before > 1, threading.active_count())
        """
    )
    assert out == "True 1"


def test_the_gil_stays_off() -> None:
    """Importing everything leaves the GIL as it was (H1)."""
    if not hasattr(sys, "_is_gil_enabled") or sys._is_gil_enabled():
        pytest.skip("this interpreter has the GIL on")
    out = run("import sys, penstock, penstock.cli.digesting; select(default=True); print(sys._is_gil_enabled())")
    assert out == "False"


def test_asyncio_is_not_imported_by_those_who_do_without() -> None:
    """Threads alone do not pay for asyncio."""
    code = "import sys, penstock; c = penstock.Channel(1); c.send(1); c.recv(); print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stdout.strip() == "False"
