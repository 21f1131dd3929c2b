"""Bugs of Istio.

The bugs are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
The kernels are written anew for Penstock.
"""

from __future__ import annotations

from kernels.goroutines import go
from kernels.registry import blocking

from penstock import Channel, Context, Mutex, Ticker, Timer, select, sleep


@blocking("istio", 16224)
def istio_16224(fixed: bool) -> None:
    """A handler says with a lock held that it is done, and whoever listens takes the lock first.

    Fixed: the handler has released the lock by then.
    """
    events, stop = Channel[str](), Channel[None]()
    lock, done = Mutex(), Channel[bool]()

    def handle() -> None:
        with lock:
            if not fixed:
                done.send(True)
        if fixed:
            done.send(True)

    def monitor() -> None:
        while select(stop, events).index == 1:
            handle()

    go(monitor)
    events.send("created")
    with lock:
        pass
    done.recv()
    stop.close()


@blocking("istio", 17860)
def istio_17860(fixed: bool) -> None:
    """An agent goes when no proxy is running, and a proxy that is restarted after that reports its end to nobody.

    Fixed: the report is given up when the agent's context ends.
    """
    context = Context.background().with_cancel()
    lock = Mutex()
    ended = Channel[int]()
    epoch = 0
    running: set[int] = set()

    def run_agent() -> None:
        while (report := select(context.done, ended)).index == 1:
            with lock:
                running.discard(report.value)
                if not running:
                    return

    def run_proxy(number: int) -> None:
        if fixed:
            select(context.done, ended.sending(number))
        else:
            ended.send(number)

    def restart() -> None:
        nonlocal epoch
        with lock:
            if running:
                wait_until_live()
            epoch += 1
            running.add(epoch)
            go(run_proxy, epoch)

    def wait_until_live() -> None:
        ticker, timer = Ticker(0.0003), Timer(0.001)
        while select(timer.channel, ticker.channel).index == 1:
            pass  # It never is.
        ticker.stop()

    go(run_agent)
    restart()
    go(restart)
    sleep(0.002)
    context.cancel()


@blocking("istio", 18454)
def istio_18454(fixed: bool) -> None:
    """A timer that is put off has gone off, and its signal has been taken; what stops it waits for the signal.

    Fixed: the signal is taken if there is one.
    """
    processor, strategy = Context.background().with_cancel(), Context.background().with_cancel()
    events = Channel[int](4)
    put_off = Channel[None](1)
    lock = Mutex()
    timer: Timer | None = None

    def publish_in_time() -> None:
        while (chosen := select(strategy.done, timer.channel, put_off)).index:
            if chosen.index == 1:
                continue
            if not timer.stop():
                if fixed:
                    select(timer.channel, default=True)
                else:
                    timer.channel.recv()
            timer.reset(0.0001)
        timer.stop()

    def change() -> None:
        nonlocal timer
        lock.acquire()
        if timer is not None:
            lock.release()
            put_off.send(None)
            return
        timer = Timer(0.0001)
        go(publish_in_time)
        lock.release()

    def process() -> None:
        while select(processor.done, events).index == 1:
            change()
        strategy.cancel()

    for number in range(4):
        events.send(number)
    go(process)
    processor.cancel()
