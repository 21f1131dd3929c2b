"""leaks(): the tasks that nothing can ever wake again are found, and no others (contract section 8)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import signal
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import contextmanager, suppress
from subprocess import run
from typing import TYPE_CHECKING, Any

import pytest
from parking import parked, release_all
from waiting import LIMIT, until

import penstock
from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Condition,
    Context,
    Group,
    Mutex,
    Once,
    PressureGauge,
    RWMutex,
    Semaphore,
    Timer,
    WaitGroup,
    after,
    aselect,
    asleep,
    cancel_scope,
    current,
    fail_after,
    fan_in,
    go,
    select,
    sleep,
)
from penstock.deadlock import leaks
from penstock.deadlock.asleep import LoopObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.fixture(autouse=True, scope="module")
def begun() -> None:
    """Nothing is parked that tests elsewhere have left."""
    release_all()


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Nothing stays parked after a test."""
    yield
    release_all()


def operations() -> list[str]:
    return sorted(task.operation for task in leaks())


def receive(channel: Any) -> None:
    with suppress(ChannelClosed):
        channel.recv()


# What is leaked: each scenario leaves these operations parked for ever


def receiver() -> list[str]:
    go(receive, Channel())
    return ["Channel.recv"]


def receiver_comma_ok() -> list[str]:
    go(Channel().recv_ok)
    return ["Channel.recv_ok"]


def sender() -> list[str]:
    go(Channel().send, 1)
    return ["Channel.send"]


def sender_to_a_full_buffer() -> list[str]:
    channel = Channel[int](1)
    channel.send(1)
    go(lambda: channel.send(2))
    return ["Channel.send"]


def for_loop() -> list[str]:
    def consume(channel: Channel[int]) -> None:
        for _ in channel:
            pass

    go(consume, Channel())
    return ["Channel.recv"]


def list_of_a_channel() -> list[str]:
    go(lambda: list(Channel()))
    return ["Channel.recv"]


def generator() -> list[str]:
    def values() -> Iterator[int]:
        yield from Channel()

    def consume() -> None:
        for _ in values():
            pass

    go(consume)
    return ["Channel.recv"]


def select_of_two() -> list[str]:
    def choose(one: Channel[int], other: Channel[int]) -> None:
        select(one, other.sending(2))

    go(choose, Channel(), Channel())
    return ["select"]


def select_of_views() -> list[str]:
    cases = (Channel().receiver, None, Channel().sender.sending(1))
    go(select, *cases)
    return ["select"]


def select_of_a_merge() -> list[str]:
    go(lambda: select(fan_in(Channel(), Channel())))
    return ["select"]


def select_without_cases() -> list[str]:
    go(select)
    go(select, None, None)
    return ["select", "select"]


def lock_whose_holder_ended() -> list[str]:
    mutex = Mutex()
    go(mutex.acquire).result()
    go(mutex.acquire)
    return ["Mutex.acquire"]


def with_locks(first: Any, second: Any, met: WaitGroup) -> None:
    with first:
        met.done()
        met.wait()
        with second:
            pass


def two_locks_in_either_order() -> list[str]:
    first, second, met = Mutex(), Mutex(), WaitGroup()
    met.add(2)
    go(with_locks, first, second, met)
    go(with_locks, second, first, met)
    return ["Mutex.acquire", "Mutex.acquire"]


def two_semaphores_in_either_order() -> list[str]:
    first, second, met = Semaphore(1), Semaphore(1), WaitGroup()
    met.add(2)
    go(with_locks, first, second, met)
    go(with_locks, second, first, met)
    return ["Semaphore.acquire", "Semaphore.acquire"]


def writer_behind_a_reader() -> list[str]:
    lock = RWMutex()
    lock.acquire_read()

    def write() -> None:
        with lock.write():
            pass

    go(write)
    until(lambda: lock.waiting() == 1)
    go(lock.acquire_read)
    return ["RWMutex.acquire_read", "RWMutex.acquire_write"]


def count_that_stays() -> list[str]:
    group = WaitGroup()
    group.add(1)
    go(group.wait)
    return ["WaitGroup.wait"]


def condition() -> list[str]:
    def wait(condition: Condition) -> None:
        with condition:
            condition.wait()

    go(wait, Condition(Mutex()))
    return ["Condition.wait"]


def call_once_that_waits_for_itself() -> list[str]:
    once = Once()
    go(once.do, lambda: once.do(lambda: None))
    return ["Once.do"]


def gauge() -> list[str]:
    def work(gauge: PressureGauge) -> None:
        with gauge.acquire():
            gauge.acquire()

    go(work, PressureGauge(1, queue=1))
    return ["PressureGauge.acquire"]


def group_of_leaked_members() -> list[str]:
    def lead() -> None:
        with Group() as group:
            group.go(receive, Channel())

    go(lead)
    return ["Channel.recv", "leaving a Group"]


def full_group() -> list[str]:
    def lead() -> None:
        with Group(limit=1) as group:
            group.go(receive, Channel())
            group.go(receive, Channel())

    go(lead)
    return ["Channel.recv", "Group.go"]


def result_of_a_leaked_task() -> list[str]:
    go(go(receive, Channel()).result)
    return ["Channel.recv", "Task.result"]


def by_a_leaked_task_alone() -> list[str]:
    """The channel of the second is reached through the first, which is leaked itself."""

    def first(channel: Channel[int]) -> None:
        Channel[int]().recv()
        channel.send(1)

    channel = Channel[int]()
    go(first, channel)
    go(receive, channel)
    return ["Channel.recv", "Channel.recv"]


def receive_quietly(channel: Channel[int]) -> None:
    with suppress(Cancelled):
        channel.recv()


def foreign_thread() -> list[str]:
    threading.Thread(target=receive_quietly, args=(Channel(),), daemon=True).start()
    return ["Channel.recv"]


def foreign_thread_in_a_scope() -> list[str]:
    def work() -> None:
        with cancel_scope():
            receive_quietly(Channel())

    threading.Thread(target=work, daemon=True).start()
    return ["Channel.recv"]


def own_object() -> list[str]:
    class Actor:
        def __init__(self) -> None:
            self.inbox = Channel[int]()
            self.lock = Mutex()

        def __call__(self) -> None:
            with self.lock:
                self.inbox.recv()

        def __hash__(self) -> int:
            raise AssertionError

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        def __repr__(self) -> str:
            raise AssertionError

    go(Actor().__call__)
    return ["Channel.recv"]


def after_an_error() -> list[str]:
    """The exception that is handled, and its traceback, do not count."""

    def fail(channel: Channel[int]) -> None:
        raise ValueError(channel)

    def work() -> None:
        channel = Channel[int]()
        try:
            fail(channel)
        except ValueError:
            Channel[int]().recv()

    go(work)
    return ["Channel.recv"]


def endless_sleep() -> list[str]:
    go(sleep, float("inf"))
    return ["sleep"]


def under_a_context_of_nobody() -> list[str]:
    with Context.background().with_value("key", 1).attach():
        go(receive, Channel())
    return ["Channel.recv"]


def outside_of_all_contexts() -> list[str]:
    def work() -> None:
        with Context.background().attach():
            receive_quietly(Channel())

    go(work)
    return ["Channel.recv"]


def callback_of_a_context() -> list[str]:
    """Who has made it waits for the same channel."""

    def work(channel: Channel[int]) -> None:
        context = current().with_cancel()
        context.after_func(lambda: receive_quietly(channel))
        context.cancel()
        receive_quietly(channel)

    go(work, Channel())
    return ["Channel.recv", "Channel.recv"]


def callback_of_a_timeout() -> list[str]:
    def work(channel: Channel[int]) -> None:
        with Context.background().attach():
            Context.background().with_timeout(0).after_func(functools.partial(receive_quietly, channel))
        receive_quietly(channel)

    go(work, Channel())
    return ["Channel.recv", "Channel.recv"]


def kept_traceback() -> list[str]:
    def fail(channel: Channel[int]) -> None:
        go(receive, channel)
        raise ValueError

    try:
        fail(Channel())
    except ValueError as error:
        KEPT.append(error)
    return ["Channel.recv"]


KEPT: list[Any] = []

THREADS = [
    receiver,
    receiver_comma_ok,
    sender,
    sender_to_a_full_buffer,
    for_loop,
    list_of_a_channel,
    generator,
    select_of_two,
    select_of_views,
    select_of_a_merge,
    select_without_cases,
    lock_whose_holder_ended,
    two_locks_in_either_order,
    two_semaphores_in_either_order,
    writer_behind_a_reader,
    count_that_stays,
    condition,
    call_once_that_waits_for_itself,
    gauge,
    group_of_leaked_members,
    full_group,
    result_of_a_leaked_task,
    by_a_leaked_task_alone,
    foreign_thread,
    foreign_thread_in_a_scope,
    own_object,
    after_an_error,
    endless_sleep,
    under_a_context_of_nobody,
    outside_of_all_contexts,
    callback_of_a_context,
    callback_of_a_timeout,
    kept_traceback,
]


@pytest.mark.parametrize("scenario", THREADS)
def test_leaked_threads_are_found(scenario: Callable[[], list[str]]) -> None:
    """Each of the parked operations, since nobody can get at anything that would end it."""
    expected = scenario()
    until(lambda: parked(*expected))
    until(lambda: operations() == sorted(expected))  # A thread that is just about to sleep may be passed over.
    release_all()
    assert leaks() == []


def test_leaked_threads_are_found_while_they_are_traced() -> None:
    """As debuggers do it, and those who measure coverage."""

    def trace(_frame: object, _event: str, _argument: object) -> Any:
        return trace

    def traced(function: Callable[[Any], None], argument: object) -> None:
        sys.settrace(trace)
        try:
            function(argument)
        finally:
            sys.settrace(None)

    def lock_twice(mutex: Mutex) -> None:
        mutex.acquire()
        mutex.acquire()

    def wait(group: WaitGroup) -> None:
        group.add()
        group.wait()

    for function, argument in ((receive, Channel()), (lock_twice, Mutex()), (wait, WaitGroup())):
        go(traced, function, argument)
    del argument
    expected = ["Channel.recv", "Mutex.acquire", "WaitGroup.wait"]
    until(lambda: parked(*expected))
    until(lambda: operations() == expected)


# asyncio tasks: what each scenario leaves parked in the loop


async def areceive(channel: Channel[Any]) -> None:
    with suppress(ChannelClosed):
        await channel.arecv()


async def task_receiver() -> list[str]:
    go(areceive, Channel())
    return ["Channel.arecv"]


async def task_sender() -> list[str]:
    async def send(channel: Channel[int]) -> None:
        await channel.asend(1)

    go(send, Channel())
    return ["Channel.asend"]


async def task_for_loop() -> list[str]:
    async def consume(channel: Channel[int]) -> None:
        async for _ in channel:
            pass

    go(consume, Channel())
    return ["Channel.arecv"]


async def task_select() -> list[str]:
    async def choose(one: Channel[int], other: Channel[int]) -> None:
        await aselect(one, other.sending(1))

    go(choose, Channel(), Channel())
    return ["aselect"]


async def task_locks() -> list[str]:
    async def both(first: Mutex, second: Mutex) -> None:
        async with first:
            await asleep(0.02)
            async with second:
                pass

    one, other = Mutex(), Mutex()
    go(both, one, other)
    go(both, other, one)
    return ["Mutex.aacquire", "Mutex.aacquire"]


async def task_group() -> list[str]:
    async def lead() -> None:
        async with Group() as group:
            group.go(areceive, Channel())

    go(lead)
    return ["Channel.arecv", "leaving a Group"]


async def task_result() -> list[str]:
    go(go(areceive, Channel()).aresult)
    return ["Channel.arecv", "Task.aresult"]


async def task_and_thread() -> list[str]:
    """Each has the channel that the other waits for."""

    async def one(mine: Channel[int], other: Channel[int]) -> None:
        await mine.arecv()
        await other.asend(1)

    def another(mine: Channel[int], other: Channel[int]) -> None:
        other.recv()
        mine.send(1)

    first, second = Channel[int](), Channel[int]()
    go(one, first, second)
    go(another, first, second)
    return ["Channel.arecv", "Channel.recv"]


async def task_wait_group() -> list[str]:
    group = WaitGroup()
    group.add(1)
    go(group.wait_async)
    return ["WaitGroup.wait_async"]


async def task_condition() -> list[str]:
    async def wait(condition: Condition) -> None:
        async with condition:
            await condition.wait_async()

    go(wait, Condition(Mutex()))
    return ["Condition.wait_async"]


TASKS = [
    task_receiver,
    task_sender,
    task_for_loop,
    task_select,
    task_locks,
    task_group,
    task_result,
    task_and_thread,
    task_wait_group,
    task_condition,
]


@pytest.mark.parametrize("scenario", TASKS)
def test_leaked_asyncio_tasks_are_found(scenario: Callable[[], Any]) -> None:
    """Asked for inside the loop that runs them."""

    async def main() -> None:
        expected = await scenario()
        deadline = time.monotonic() + LIMIT
        while not parked(*expected):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        until(lambda: operations() == sorted(expected))
        while not parked():
            release_all_but_this()
            await asyncio.sleep(0.005)

    asyncio.run(main())
    assert leaks() == []


def release_all_but_this() -> None:
    from penstock._kernel.inspection import fail, parked_operations

    for one in parked_operations():
        fail(one, Cancelled())


# What is not leaked: each scenario parks something that can still be woken, and keeps what could wake it meanwhile

GLOBAL = Channel[int]()


@contextmanager
def in_a_global() -> Iterator[None]:
    go(receive, GLOBAL)
    yield


@contextmanager
def in_a_local_variable() -> Iterator[None]:
    channel = Channel[int]()
    go(receive, channel)
    yield
    assert channel is not None


@contextmanager
def in_a_class_attribute() -> Iterator[None]:
    class Holder:
        channel = Channel[int]()

    go(receive, Holder.channel)
    KEPT.append(Holder)
    yield
    KEPT.clear()


@contextmanager
def in_a_slot() -> Iterator[None]:
    class Holder:
        __slots__ = ("channel",)

    holder = Holder()
    holder.channel = Channel()
    go(receive, holder.channel)
    KEPT.append(holder)
    yield
    KEPT.clear()


@contextmanager
def in_containers() -> Iterator[None]:
    channels = [Channel[int]() for _ in range(6)]
    for channel in channels:
        go(receive, channel)
    KEPT.append({"list": [channels.pop()]})
    KEPT.append({channels.pop()})
    KEPT.append(deque([channels.pop()]))
    KEPT.append(functools.partial(receive, channels.pop()))
    KEPT.append(channels.pop().close)
    KEPT.append(channels.pop().sender)
    del channel
    yield
    KEPT.clear()


@contextmanager
def in_a_closure_of_a_timer() -> Iterator[None]:
    channel = Channel[int]()
    context = Context.background().with_timeout(100)
    context.after_func(channel.close)
    go(receive, channel)
    del channel
    yield
    context.cancel()


@contextmanager
def timer_that_nobody_has() -> Iterator[None]:
    go(lambda: after(100).recv())
    yield


@contextmanager
def timer_of_the_library() -> Iterator[None]:
    timer = Timer(100)
    go(timer.channel.recv)
    yield
    timer.stop()


@contextmanager
def under_a_deadline() -> Iterator[None]:
    def work() -> None:
        with fail_after(100):
            Channel[int]().recv()

    go(work)
    yield


@contextmanager
def with_a_deadline() -> Iterator[None]:
    go(Channel().recv, 100)
    yield


@contextmanager
def under_a_context_that_is_held() -> Iterator[None]:
    context = Context.background().with_cancel()
    with context.attach():
        go(receive, Channel())
    yield
    assert context.error is None


@contextmanager
def task_that_is_held() -> Iterator[None]:
    task = go(receive, Channel())
    yield
    task.cancel()


@contextmanager
def in_a_context_variable() -> Iterator[None]:
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    token = variable.set(Channel())
    go(receive, variable.get())
    yield
    variable.reset(token)


@contextmanager
def by_another_thread() -> Iterator[None]:
    stop = threading.Event()

    def hold(channel: Channel[int]) -> None:
        go(receive, channel)
        stop.wait(LIMIT)
        del channel

    thread = threading.Thread(target=hold, args=(Channel(),))
    thread.start()
    yield
    stop.set()
    thread.join()


@contextmanager
def in_a_context_variable_of_another_thread() -> Iterator[None]:
    stop = threading.Event()
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

    def hold() -> None:
        variable.set(Channel())
        go(receive, variable.get())
        stop.wait(LIMIT)

    thread = threading.Thread(target=hold)
    thread.start()
    yield
    stop.set()
    thread.join()


@contextmanager
def by_a_task_that_sleeps() -> Iterator[None]:
    def hold(channel: Channel[int]) -> None:
        sleep(100)
        channel.send(1)

    channel = Channel[int]()
    go(receive, channel)
    go(hold, channel)
    del channel
    yield


@contextmanager
def by_a_chain_of_tasks() -> Iterator[None]:
    """The first can be woken, and would wake the next."""

    def forward(source: Channel[int], to: Channel[int]) -> None:
        to.send(source.recv())

    first = Channel[int]()
    source = first
    for _ in range(5):
        to = Channel[int]()
        go(forward, source, to)
        source = to
    go(receive, source)
    del source, to
    yield
    assert first is not None


@contextmanager
def by_a_signal_handler() -> Iterator[None]:
    def set_handler(channel: Channel[int]) -> Any:
        go(receive, channel)
        return signal.signal(signal.SIGTERM, lambda *_: channel.close())

    before = set_handler(Channel())
    yield
    signal.signal(signal.SIGTERM, before)


@contextmanager
def behind_a_weak_reference() -> Iterator[None]:
    """As long as the parked task keeps it alive, whoever has a weak reference can get at it."""

    def subscribe() -> None:
        channel = Channel[int]()
        KEPT.append(weakref.WeakSet([channel]))
        channel.recv()

    go(subscribe)
    yield
    KEPT.clear()


@contextmanager
def behind_a_weak_proxy() -> Iterator[None]:
    def subscribe() -> None:
        channel = Channel[int]()
        KEPT.append(weakref.proxy(channel))
        channel.recv()

    go(subscribe)
    yield
    KEPT.clear()


@contextmanager
def in_a_suspended_generator() -> Iterator[None]:
    def values() -> Iterator[int]:
        channel = Channel[int]()
        go(receive, channel)
        yield 1
        channel.send(1)

    suspended = values()
    next(suspended)
    yield
    suspended.close()


@contextmanager
def in_a_finalizer() -> Iterator[None]:
    class Owner:
        pass

    owner = Owner()
    channel = Channel[int]()
    finalizer = weakref.finalize(owner, channel.close)
    go(receive, channel)
    del channel
    yield
    finalizer()
    assert owner is not None


@contextmanager
def in_a_thread_local() -> Iterator[None]:
    local = threading.local()
    local.channel = Channel[int]()
    go(receive, local.channel)
    yield
    del local


@contextmanager
def by_a_thread_that_is_held() -> Iterator[None]:
    class Worker(threading.Thread):
        def __init__(self) -> None:
            super().__init__(daemon=True)
            self.inbox = Channel[int]()

        def run(self) -> None:
            self.inbox.recv()

    worker = Worker()
    worker.start()
    yield
    worker.inbox.send(1)
    worker.join()


@contextmanager
def mutex_whose_holder_runs() -> Iterator[None]:
    stop = threading.Event()

    def hold(mutex: Mutex) -> None:
        with mutex:
            go(mutex.acquire)
            stop.wait(LIMIT)

    thread = threading.Thread(target=hold, args=(Mutex(),))
    thread.start()
    yield
    stop.set()
    thread.join()


HELD = [
    in_a_global,
    in_a_local_variable,
    in_a_class_attribute,
    in_a_slot,
    in_containers,
    in_a_closure_of_a_timer,
    timer_that_nobody_has,
    timer_of_the_library,
    under_a_deadline,
    with_a_deadline,
    under_a_context_that_is_held,
    task_that_is_held,
    in_a_context_variable,
    by_another_thread,
    in_a_context_variable_of_another_thread,
    by_a_task_that_sleeps,
    by_a_chain_of_tasks,
    by_a_signal_handler,
    behind_a_weak_reference,
    behind_a_weak_proxy,
    in_a_suspended_generator,
    in_a_finalizer,
    in_a_thread_local,
    by_a_thread_that_is_held,
    mutex_whose_holder_runs,
]


@pytest.mark.parametrize("scenario", HELD)
def test_what_can_still_be_woken_is_no_leak(scenario: Callable[[], Any]) -> None:
    """Somebody has something that would wake it."""
    with scenario():
        until(lambda: not parked())
        time.sleep(0.01)
        assert leaks() == []


def started(channel: Channel[Any]) -> Channel[Any]:
    """Let a task wait for `channel`; returns it once it does."""
    go(receive, channel)
    until(lambda: not parked())
    return channel


class Asking:
    """Asks for leaks wherever Python calls into an object, and lets what is parked go."""

    def __init__(self) -> None:
        self.found: list[list[str]] = []

    def __call__(self, *_args: object) -> int:
        self.found.append(operations())
        return 0


class Block:
    """Keeps a channel for the time of a block."""

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel = channel

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_args: object) -> None:
        self.channel.close()


def test_what_is_on_the_evaluation_stack_alone_is_no_leak() -> None:
    """The interpreter has it in hand: a loop, a block, arguments of a call."""
    ask = Asking()
    for _ in [started(Channel())]:
        ask()
    release_all()
    with Block(started(Channel())):
        ask()
    release_all()
    print(started(Channel()), ask())
    release_all()
    assert [started(Channel()), ask()][1] == 0
    release_all()
    for _ in iter([1, started(Channel())]):
        ask()
    assert ask.found == [[]] * 6


def test_what_a_function_in_c_has_in_hand_is_no_leak() -> None:
    """It is no object that the garbage collector would show."""
    ask = Asking()
    sorted([started(Channel()), started(Channel())], key=ask)
    release_all()
    list(map(ask, [started(Channel())]))
    release_all()
    functools.reduce(ask, [started(Channel())], 0)  # type: ignore[arg-type]
    release_all()
    max([started(Channel())], key=ask)
    release_all()
    functools.partial(ask, started(Channel()))()
    assert ask.found == [[]] * 6
    until(lambda: operations() == ["Channel.recv"])  # By now nobody has it in hand.


def test_numpy_arrays_of_objects() -> None:
    """They do not tell the garbage collector what they refer to."""
    numpy = pytest.importorskip("numpy")
    array = numpy.array([Channel(), None], dtype=object)
    go(receive, array[0])
    until(lambda: parked("Channel.recv"))
    assert leaks() == []
    array[0] = None
    until(lambda: operations() == ["Channel.recv"])


def loops() -> list[Any]:
    try:
        import uvloop
    except ImportError:
        return [None]
    return [None, uvloop.new_event_loop]


@pytest.mark.parametrize("factory", loops())
def test_what_an_event_loop_has_is_no_leak(factory: Any) -> None:
    """Its timers, connections and suspended tasks will run."""

    async def main() -> None:
        loop = asyncio.get_running_loop()

        lost: list[Any] = []

        class Protocol(asyncio.Protocol):
            def __init__(self, channel: Channel[int]) -> None:
                self.channel = channel

            def data_received(self, data: bytes) -> None:  # noqa: ARG002  the protocol's signature
                self.channel.close()

            def connection_lost(self, error: Exception | None) -> None:
                lost.append(error)

        async def hold(channel: Channel[int]) -> None:
            await asyncio.sleep(100)
            await channel.asend(1)

        async def wait_for_a_future(channel: Channel[int], future: asyncio.Future[None]) -> None:
            await future
            await channel.asend(1)

        def start() -> Channel[int]:
            channel = Channel[int]()
            go(areceive, channel)
            go(receive, channel)
            return channel

        timer = loop.call_later(100, start().close)
        server = await loop.create_server(lambda: Protocol(start()), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(lambda: Protocol(start()), "127.0.0.1", port)
        sleeping = asyncio.create_task(hold(start()))
        future = loop.create_future()
        waiting = asyncio.create_task(wait_for_a_future(start(), future))
        del future
        deadline = time.monotonic() + LIMIT
        while not parked(*["Channel.arecv", "Channel.recv"] * 5):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        gc.collect()
        for _ in range(3):
            assert leaks() == []
            await asyncio.sleep(0.01)
        timer.cancel()
        sleeping.cancel()
        waiting.cancel()
        transport.close()
        server.close()
        while not parked() or len(lost) < 2:
            release_all_but_this()
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_garbage_with_a_finalizer_is_no_leak() -> None:
    """When it is collected, it wakes the task: at the latest when somebody asks."""

    class Closing:
        def __init__(self, channel: Channel[int]) -> None:
            self.channel = channel
            self.itself = self

        def __del__(self) -> None:
            self.channel.close()

    def values(channel: Channel[int]) -> Iterator[Any]:
        with channel:
            itself = yield
            yield itself

    def suspended(channel: Channel[int]) -> None:
        generator: Any = values(channel)
        next(generator)
        generator.send(generator)

    collects = gc.isenabled()
    gc.disable()
    try:
        for drop in (Closing, suspended):
            channel = Channel[int]()
            go(receive, channel)
            until(lambda: parked("Channel.recv"))
            drop(channel)
            del channel
            assert leaks() == []
            until(parked)
    finally:
        if collects:
            gc.enable()


def test_leaks_asked_for_by_a_finalizer() -> None:
    """Other finalizers of the same garbage may be still to come: nothing is proved."""
    found: list[list[str]] = []

    class Asking:
        def __init__(self, channel: Channel[int]) -> None:
            self.channel = channel
            self.itself = self

        def __del__(self) -> None:
            found.append(operations())
            self.channel.close()

    for _ in range(2):
        channel = Channel[int]()
        go(receive, channel)
        until(lambda: parked("Channel.recv"))
        Asking(channel)
        del channel
        gc.collect()
        until(parked)
    assert found == [[], []]


def test_each_entry_tells_who_and_where() -> None:
    """The task, what it waits for, since when, and where it is parked."""
    go(receive, Channel(name="orders"))
    until(leaks)
    (leak,) = leaks()
    assert leak.task is not None
    assert leak.task.name == leak.name == "receive"
    assert leak.waits_for[0].kind == "channel receive"
    assert leak.waits_for[0].name == "channel orders"
    assert leak.deadline is None
    assert leak.seconds >= 0
    assert [frame.function for frame in leak.stack] == ["receive"]


def test_what_leaks_has_returned_does_not_count() -> None:
    """Nor does a report: to look at a leaked task does not make it one that could be woken."""
    go(receive, Channel())
    until(leaks)
    first = leaks()
    kept = penstock.deadlock.report()
    assert [task.name for task in leaks()] == [task.name for task in first] == ["receive"]
    task = first[0].task
    assert task is not None
    assert leaks() == []  # Now it could be cancelled.
    task.cancel()
    until(lambda: task.done)
    assert len(kept.tasks) == 1


def test_without_parked_tasks_nothing_is_leaked() -> None:
    """And little is done."""
    assert leaks() == []


def test_leaks_from_several_threads_at_once() -> None:
    """They do not hide anything from each other."""
    go(receive, Channel())
    held = Channel[int]()
    go(receive, held)
    until(lambda: parked("Channel.recv", "Channel.recv") and leaks())
    found: list[list[str]] = []
    with Group() as group:
        for _ in range(3):
            group.go(lambda: found.append(operations()))
    assert found == [["Channel.recv"]] * 3
    held.close()


def test_leaks_while_somebody_looks_for_a_deadlock() -> None:
    """What the look has in hand does not count."""
    go(receive, Channel())
    until(leaks)
    stop = threading.Event()

    def look() -> None:
        observer = LoopObserver()
        while not stop.is_set():
            observer.look()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        found = [operations() for _ in range(5)]
    finally:
        stop.set()
        looking.join()
    assert found == [["Channel.recv"]] * 5


def test_leaks_from_a_task_that_would_be_one() -> None:
    """Who asks is running."""

    def ask(channel: Channel[int]) -> list[str]:
        go(receive, channel)
        until(lambda: parked("Channel.recv", "Task.result"))
        return operations()

    assert go(ask, Channel()).result(LIMIT) == []


def test_leaks_in_a_signal_handler() -> None:
    """Wherever it interrupts the program, leaks included."""
    go(receive, Channel())
    until(lambda: parked("Channel.recv"))
    found: list[list[str]] = []

    def handle(*_: object) -> None:
        found.append(operations())
        if len(found) < 5:  # More would hold up the search that they interrupt.
            signal.setitimer(signal.ITIMER_REAL, 0.01)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        until(lambda: operations() and len(found) > 3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(one in ([], ["Channel.recv"]) for one in found)


SHUTDOWN = """
import penstock
from penstock.deadlock import leaks, report

class Last:
    def __del__(self, leaks=leaks, report=report):
        print(len(str(report())) > 0, [task.operation for task in leaks()])

penstock.go(penstock.Channel().recv)
while not report().tasks:
    pass
last = Last()
last.itself = last
{end}
"""


@pytest.mark.parametrize("end", ["", "import atexit; atexit.register(last.__del__)"])
def test_leaks_and_reports_while_the_interpreter_shuts_down(end: str) -> None:
    """Nothing is raised, and no crash; what is known is told."""
    done = run(
        [sys.executable, "-c", SHUTDOWN.format(end=end)], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("True [")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="InterpreterPoolExecutor came with Python 3.14")
def test_reports_beside_other_interpreters() -> None:
    """With a GIL, the frames of all threads cannot be had then: less is told, and nothing breaks."""
    from concurrent.futures import InterpreterPoolExecutor

    go(receive, Channel())
    until(lambda: parked("Channel.recv"))
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            assert len(penstock.deadlock.report().tasks) == 1
            leaks()

    with Group() as group:
        group.go(look)
        with InterpreterPoolExecutor(2) as executor:
            assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        stop.set()
    until(lambda: operations() == ["Channel.recv"])


def test_nothing_is_proved_of_a_frozen_heap() -> None:
    """After `gc.freeze()` it is not known what refers to what: no false alarm."""
    channel = Channel[int]()
    gc.freeze()
    try:
        go(receive, channel)
        until(lambda: parked("Channel.recv"))
        assert leaks() == []
    finally:
        gc.unfreeze()
    channel.close()


def test_storm_of_leaks() -> None:
    """While tasks meet on channels all the time, none of them is ever called leaked; those that are, always are."""
    lost = Channel[int]()
    go(receive, lost)
    del lost
    ends = time.monotonic() + 2
    hub = [Channel[int]() for _ in range(4)]

    def pass_on(number: int) -> None:
        source, to = hub[number], hub[(number + 1) % 4]
        with suppress(ChannelClosed):
            while True:
                fresh = Channel[int]()
                go(fresh.send, source.recv())
                to.send(fresh.recv())

    with Group() as group:
        for number in range(4):
            group.go(pass_on, number)
        go(hub[0].send, 1)
        go(hub[2].send, 1)
        until(lambda: operations() == ["Channel.recv"])
        while time.monotonic() < ends:
            assert set(operations()) <= {"Channel.recv"}
            assert len(leaks()) <= 1
        for channel in hub:
            channel.close()


def test_scope_of_the_asker() -> None:
    """A task under the context that is ambient where leaks are asked for could be cancelled from there."""
    with cancel_scope():
        go(receive, Channel())
        until(lambda: parked("Channel.recv"))
        assert leaks() == []
        current().cancel()
