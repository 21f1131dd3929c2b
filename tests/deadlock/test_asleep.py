"""DeadlockError: when all is asleep, and never otherwise (contract section 8)."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from programs import Batch, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="threads that are not Python's are seen on Linux alone"),
    pytest.mark.others_keep_threads,  # those of the batch
]

CATCHING = """
from contextlib import contextmanager
from penstock import *

@contextmanager
def deadlocked():
    try:
        yield
    except DeadlockError as error:
        print("deadlock:", *sorted(task.operation for task in error.report.tasks))
    else:
        print("went on")
"""

WATCHING = """
import asyncio
from penstock.deadlock import watch
watch(lock_order=False)
silent = Channel()
"""


def deadlock(name: str, source: str, *told: str, watched: bool = False) -> Any:
    """A program that catches its DeadlockError, and the lines that it prints."""
    start = CATCHING + (WATCHING if watched else "")
    return pytest.param(start + dedent(source), "".join(f"{line}\n" for line in told), id=name)


DEADLOCKS = [
    deadlock(
        "a receive from a channel that nobody has",
        "with deadlocked(): Channel().recv()",
        "deadlock: Channel.recv",
    ),
    deadlock("a select without a case", "with deadlocked(): select(None)", "deadlock: select"),
    deadlock(
        "a done that is missing",
        """
        group = WaitGroup()
        group.add(2)
        group.go(lambda: None).result()
        with deadlocked(): group.wait()
        """,
        "deadlock: WaitGroup.wait",
    ),
    deadlock(
        "two mutexes in two orders, in a group whose members are cancelled and waited for",
        """
        first, second, both = Mutex(), Mutex(), WaitGroup()
        both.add(2)

        def take(one, other):
            with one:
                both.done()
                both.wait()
                with other:
                    pass

        with deadlocked():
            with Group() as group:
                group.go(take, first, second)
                group.go(take, second, first)
        print(first.locked, second.locked)
        """,
        "deadlock: Mutex.acquire Mutex.acquire leaving a Group",
        "False False",
    ),
    deadlock(
        "members that do not end when they are cancelled",
        """
        silent = Channel()

        def stubborn():
            with Context.background().attach():
                silent.recv()

        with deadlocked():
            with Group() as group:
                group.go(stubborn)
        """,
        "deadlock: Channel.recv leaving a Group",
    ),
    deadlock(
        "a condition whose lock is kept",
        """
        mutex = Mutex()
        condition = Condition(mutex)

        def keep():
            with mutex:
                condition.notify()
                Channel().recv()

        with deadlocked():
            mutex.acquire()
            go(keep)
            condition.wait()
        """,
        "deadlock: Channel.recv Mutex.acquire",
    ),
    deadlock(
        "whoever catches it goes on, and the others stay parked",
        """
        channel = Channel()
        task = go(channel.recv)
        for _ in range(2):
            with deadlocked(): Channel().recv()
        channel.send(7)
        print(task.result())
        """,
        "deadlock: Channel.recv Channel.recv",
        "deadlock: Channel.recv Channel.recv",
        "7",
    ),
    deadlock(
        "threads of others in the library, and idle ones of executors, of the pool and of the timers",
        """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        executor = ThreadPoolExecutor()
        executor.submit(int).result()
        go(int).result()
        sleep(0.01)
        with move_on_after(9): pass
        silent = Channel()
        threading.Thread(target=silent.recv_ok).start()
        with deadlocked(): Channel().recv()
        executor.submit(silent.recv_ok)
        with deadlocked(): Channel().recv()
        silent.close()
        """,
        "deadlock: Channel.recv Channel.recv_ok",
        "deadlock: Channel.recv Channel.recv_ok Channel.recv_ok",
    ),
    deadlock(
        "threads that wait for others in the standard library",
        """
        import queue, threading
        silent, event = Channel(), threading.Event()
        one = threading.Thread(target=silent.recv_ok)
        threads = [one, threading.Thread(target=one.join), threading.Thread(target=event.wait)]
        for thread in threads: thread.start()
        with deadlocked(): Channel().recv()
        silent.close()
        event.set()
        """,
        "deadlock: Channel.recv Channel.recv_ok",
    ),
    deadlock(
        "a loop in another thread that waits for main",
        """
        import asyncio, threading
        there, back = Channel(), Channel()

        async def serve():
            await back.asend(await there.arecv())

        threading.Thread(target=asyncio.run, args=(serve(),)).start()
        with deadlocked(): back.recv()
        there.send(1)
        print(back.recv())
        """,
        "deadlock: Channel.arecv Channel.recv",
        "1",
    ),
    deadlock(
        "a forked child, whose parent's threads have not come along",
        """
        import os, warnings
        warnings.simplefilter("ignore")
        silent = Channel()
        tasks = [go(silent.recv_ok) for _ in range(3)]
        sleep(0.1)
        child = os.fork()
        if not child:
            with deadlocked(): Channel().recv()
            import sys
            sys.stdout.flush()
            os._exit(0)
        with deadlocked(): os.waitpid(child, 0)
        """,
        "deadlock: Channel.recv",
        "went on",
    ),
    deadlock(
        "asyncio: the main task in the library",
        """
        async def main():
            with deadlocked():
                await silent.arecv()
            silent.close()

        asyncio.run(main())
        """,
        "deadlock: Channel.arecv",
        watched=True,
    ),
    deadlock(
        "asyncio: gathered",
        """
        async def main():
            with deadlocked():
                await asyncio.gather(silent.arecv_ok(), Channel().arecv())
            silent.close()

        asyncio.run(main())
        """,
        "deadlock: Channel.arecv Channel.arecv_ok",
        watched=True,
    ),
    deadlock(
        "asyncio: the main task elsewhere",
        """
        async def main():
            with deadlocked():
                waits = asyncio.ensure_future(silent.arecv_ok()); await asyncio.Event().wait()
            silent.close()

        asyncio.run(main())
        """,
        "deadlock: Channel.arecv_ok",
        watched=True,
    ),
    deadlock(
        "asyncio: the main task waits for another",
        """
        async def main():
            with deadlocked():
                await asyncio.ensure_future(silent.arecv())
            silent.close()

        asyncio.run(main())
        """,
        "deadlock: Channel.arecv",
        watched=True,
    ),
    deadlock(
        "asyncio: a thread of the executor",
        """
        async def main():
            with deadlocked():
                await asyncio.to_thread(silent.recv_ok)
            silent.close()

        asyncio.run(main())
        """,
        "deadlock: Channel.recv_ok",
        watched=True,
    ),
    deadlock(
        "asyncio: a double lock",
        """
        async def main():
            with deadlocked():
                mutex = Mutex(); await mutex.aacquire(); await mutex.aacquire()
            silent.close()

        asyncio.run(main())
        """,
        "deadlock: Mutex.aacquire",
        watched=True,
    ),
    deadlock(
        "asyncio: groups, the library's and asyncio's",
        """
        async def main():
            with deadlocked():
                async with Group() as group:
                    group.go(silent.arecv)
            with deadlocked():
                async with asyncio.TaskGroup() as group:
                    group.create_task(silent.arecv_ok())

        asyncio.run(main())
        """,
        "deadlock: Channel.arecv leaving a Group",
        "deadlock: Channel.arecv_ok",
        watched=True,
    ),
    deadlock(
        "asyncio: members that do not end when they are cancelled",
        """
        async def stubborn():
            while not silent.closed:
                with Context.background().attach():
                    try:
                        await silent.arecv_ok()
                    except asyncio.CancelledError:
                        pass

        async def main():
            with deadlocked():
                async with Group() as group:
                    group.go(stubborn)
            silent.close()

        asyncio.run(main())
        """,
        "deadlock: Channel.arecv_ok leaving a Group",
        watched=True,
    ),
    deadlock(
        "asyncio: a thread and a loop that wait for each other",
        """
        back = Channel()
        go(lambda: back.send(silent.recv()))

        async def main():
            with deadlocked():
                await back.arecv()
            await silent.asend(1)
            print(await back.arecv())

        asyncio.run(main())
        """,
        "deadlock: Channel.arecv Channel.recv",
        "1",
        watched=True,
    ),
    deadlock(
        "asyncio: a condition whose lock is kept",
        """
        mutex = Mutex()
        condition = Condition(mutex)

        def keep():
            with mutex:
                condition.notify()
                silent.recv()

        async def main():
            with deadlocked():
                await mutex.aacquire()
                task = go(keep)
                await condition.wait_async()

        asyncio.run(main())
        """,
        "deadlock: Channel.recv Mutex.aacquire",
        watched=True,
    ),
]


def survivor(name: str, source: str) -> Any:
    """A program that takes longer than it takes to notice a deadlock, and ends by itself."""
    return pytest.param("import time\nfrom penstock import *\n" + dedent(source), id=name)


SURVIVORS = [
    survivor(
        "a foreign thread",
        """
        import threading
        channel = Channel()
        threading.Thread(target=lambda: (time.sleep(1.6), channel.send(1))).start()
        channel.recv()
        print("went on")

        """,
    ),
    survivor(
        "threads that wait for others in the standard library, for a time",
        """
        import threading
        channel, event = Channel(), threading.Event()
        sleeper = threading.Thread(target=Channel().recv_ok, daemon=True)
        sleeper.start()
        threading.Thread(target=lambda: (sleeper.join(1.6), channel.send(1))).start()
        channel.recv()
        threading.Thread(target=lambda: (event.wait(1.6), channel.send(1))).start()
        channel.recv()
        print("went on")
        """,
    ),
    survivor(
        "threads that have been woken, and have not run yet",
        """
        import threading
        channel = Channel()
        turns = [threading.Condition() for _ in range(4)]

        def pass_on(mine, following):
            with mine:
                while mine.wait():
                    if channel.closed:
                        return
                    with following:
                        following.notify()

        for mine, following in zip(turns, turns[1:] + turns[:1]):
            threading.Thread(target=pass_on, args=(mine, following), daemon=True).start()
        sleep(0.2)
        with turns[0]:
            turns[0].notify()
        go(lambda: (time.sleep(2.5), channel.close()))
        channel.recv_ok()
        print("went on")
        """,
    ),
    survivor(
        "threads of executors that have been given work, and have not run yet",
        """
        from concurrent.futures import ThreadPoolExecutor
        channel = Channel()
        executors = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]
        end = time.monotonic() + 3

        def pass_on(number):
            if time.monotonic() < end:
                executors[1 - number].submit(pass_on, 1 - number)
            else:
                channel.send(1)

        executors[0].submit(pass_on, 0)
        channel.recv()
        print("went on")
        """,
    ),
    survivor(
        "a task that waits for another process",
        """
        import subprocess, sys
        channel = Channel()
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.6)"], stdout=subprocess.PIPE)
        go(lambda: (child.stdout.read(), channel.send(1)))
        channel.recv()
        print("went on")

        """,
    ),
    survivor(
        "a thread of an executor at work",
        """
        from concurrent.futures import ThreadPoolExecutor
        channel = Channel()
        executor = ThreadPoolExecutor(1)
        executor.submit(lambda: (time.sleep(1.6), channel.send(1)))
        channel.recv()
        print("went on")

        """,
    ),
    survivor(
        "an executor's initializer, which is a C function",
        """
        from concurrent.futures import ThreadPoolExecutor
        channel = Channel()
        executor = ThreadPoolExecutor(1, initializer=time.sleep, initargs=(1.6,))
        executor.submit(channel.send, 1)
        channel.recv()
        print("went on")

        """,
    ),
    survivor(
        "a call left behind",
        """
        channel = Channel()
        with cancel_scope() as scope:
            call(lambda: (scope.cancel(), time.sleep(1.6), channel.close()))
        channel.recv_ok()
        print("went on")

        """,
    ),
    survivor(
        "a signal handler",
        """
        import signal
        channel = Channel()
        signal.signal(signal.SIGALRM, lambda *_: channel.close())
        signal.setitimer(signal.ITIMER_REAL, 1.6)
        channel.recv_ok()
        print("went on")

        """,
    ),
    survivor(
        "a finalizer of garbage",
        """
        import gc
        gc.set_threshold(1_000_000)
        channel = Channel()

        class Closing:
            def __del__(self):
                channel.close()

        closing = Closing()
        closing.itself = closing
        del closing
        channel.recv_ok()
        print("went on")

        """,
    ),
    survivor(
        "asyncio: a signal handler of the loop",
        """
        import asyncio, signal
        from penstock.deadlock import watch
        watch()
        channel = Channel()

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, channel.close)
            signal.setitimer(signal.ITIMER_REAL, 1.6)
            await channel.arecv_ok()
            print("went on")

        asyncio.run(main())

        """,
    ),
    *[
        survivor(
            f"a loop in another thread that waits for {what}",
            f"""
            import asyncio, os, subprocess, sys, threading

            async def read():
                there, here = os.pipe()
                child = subprocess.Popen(["sleep", "1.6"], pass_fds=[here])
                os.close(here)
                ended = asyncio.Event()
                asyncio.get_running_loop().add_reader(there, ended.set)
                await ended.wait()
                asyncio.get_running_loop().remove_reader(there)
                child.wait()

            async def late():
                try:
                    {wait}
                except TimeoutError:
                    pass
                await channel.asend(1)

            channel = Channel()
            threading.Thread(target=asyncio.run, args=(late(),)).start()
            channel.recv()
            print("went on")
            """,
        )
        for what, wait in {
            "the clock": "await asyncio.sleep(1.6)",
            "an event, with a timeout": "await asyncio.wait_for(asyncio.Event().wait(), 1.6)",
            "a child process": "await (await asyncio.create_subprocess_exec('sleep', '1.6')).wait()",
            "a thread": "await asyncio.to_thread(time.sleep, 1.6)",
            "a file": "await read()",
        }.items()
    ],
    *[
        survivor(
            f"asyncio: the main loop waits for {what}",
            f"""
            import asyncio
            from penstock.deadlock import watch
            watch()
            channel = Channel()

            async def late():
                await {wait}
                await channel.asend(1)

            async def main():
                task = asyncio.ensure_future(late())
                await channel.arecv()
                await task
                print("went on")

            asyncio.run(main())
            """,
        )
        for what, wait in {"the clock": "asyncio.sleep(1.6)", "a thread": "asyncio.to_thread(time.sleep, 1.6)"}.items()
    ],
]


def silent(name: str, source: str) -> Any:
    """A program whose main thread sleeps until the alarm ends the process; there is no handler to count as one."""
    start = "import signal\nfrom penstock import *\nsignal.setitimer(signal.ITIMER_REAL, 3)\n"
    return pytest.param(start + dedent(source), id=name)


SILENT = [
    silent(
        "what uvloop waits for",
        """
        import uvloop
        from penstock.deadlock import watch
        watch()

        async def main():
            await Channel().arecv()

        uvloop.run(main())
        """,
    ),
    silent(
        "another interpreter",
        """
        try:
            from _interpreters import create
        except ImportError:
            from _xxsubinterpreters import create
        other = create()
        Channel().recv()
        """,
    ),
    silent(
        "threads in a simulated world",
        """
        from penstock._kernel import simulation
        simulation.install()
        simulation.simulated.worlds[1] = object()
        Channel().recv()
        """,
    ),
    silent(
        "a loop that is of another kind than asyncio's",
        """
        import asyncio
        from penstock.deadlock import watch
        watch()

        class Loop(asyncio.SelectorEventLoop):
            def _run_once(self):
                super()._run_once()

        async def main():
            await Channel().arecv()

        Loop().run_until_complete(main())
        """,
    ),
]


@pytest.fixture(scope="module")
def batch() -> Iterator[Batch]:
    """Runs the programs of the tests that have been selected side by side, since all that they do is wait."""
    programs = Batch()
    yield programs
    programs.close()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, batch: Batch) -> Any:
    """How the test's program ended."""
    mine = [item for item in request.session.items if item.module is request.module and hasattr(item, "callspec")]
    sources = [item.callspec.params["source"] for item in mine]
    return batch.outcome(request.node.callspec.params["source"], sources)


@pytest.mark.parametrize(("source", "told"), DEADLOCKS)
def test_deadlock(outcome: Any, source: str, told: str) -> None:  # noqa: ARG001  the fixture runs it
    """All is asleep: `DeadlockError` in the main task, with the report."""
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, told, "")


@pytest.mark.parametrize("source", SURVIVORS)
def test_what_could_go_on(outcome: Any, source: str) -> None:  # noqa: ARG001
    """Something is left that could wake a task: nothing is raised."""
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "went on\n", "")


@pytest.mark.parametrize("source", SILENT)
def test_what_cannot_be_known(outcome: Any, source: str) -> None:  # noqa: ARG001
    """What cannot be seen might go on: nothing is raised."""
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (-14, "", "")


def test_uncaught_it_tells_what_everybody_waits_for() -> None:
    """The error is a RuntimeError with the report in its text."""
    done = run_program("from penstock import *\nChannel(name='nobody').recv()")
    assert done.returncode == 1
    assert "DeadlockError: all tasks are asleep" in done.stderr
    assert "channel nobody" in done.stderr
    assert "main thread: in Channel.recv" in done.stderr


def test_native_thread() -> None:
    """One that is not Python's might call into it: as long as it is there, nothing is raised."""
    source = """
        import ctypes, os
        thread = ctypes.c_ulong()
        libc = ctypes.CDLL(None)
        libc.pthread_create(ctypes.byref(thread), None, libc.sleep, ctypes.c_void_p(1))
        assert len(os.listdir("/proc/self/task")) == 2
        with deadlocked(): Channel().recv()
        print(len(os.listdir("/proc/self/task")))
    """
    done = run_program(CATCHING + dedent(source))
    assert (done.returncode, done.stdout, done.stderr) == (0, "deadlock: Channel.recv\n1\n", "")


def test_nothing_is_loaded_before_the_first_look() -> None:
    """A program that never waits long does not even import the package."""
    source = """
        import sys
        from penstock import *
        go(lambda: sleep(0.1)).result()
        print("penstock.deadlock" in sys.modules)
    """
    assert run_program(source).stdout == "False\n"
