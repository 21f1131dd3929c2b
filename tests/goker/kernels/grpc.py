"""Bugs of gRPC's implementation in Go.

The bugs are those of GoBench (Yuan et al., "GoBench: a benchmark suite of real-world Go concurrency bugs", CGO 2021).
The kernels are written anew for Penstock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.goroutines import after_func, go
from kernels.registry import blocking

from penstock import Channel, Context, Mutex, Timer, after, select

if TYPE_CHECKING:
    from collections.abc import Callable


@blocking("grpc", 660)
def grpc_660(fixed: bool) -> None:
    """A client in a loop is told to stop and returns, while the answer of its last call finds nobody to take it.

    Fixed: the answer has a place to lie in, taken or not.
    """
    stop = Channel[None]()

    def call_in_a_loop() -> None:
        for _ in range(3):
            answer = Channel[bool](1 if fixed else 0)
            go(answer.send, True)
            if select(stop, answer).index == 0:
                return
        stop.recv()

    go(call_in_a_loop)
    go(stop.send, None)


@blocking("grpc", 795)
def grpc_795(fixed: bool) -> None:
    """A server that is told to stop keeps its lock, and takes it once more when it is told again.

    Fixed: the lock is released on both ways out.
    """
    lock = Mutex()
    draining = False

    def serve() -> None:
        with lock:
            pass

    def stop_gracefully() -> None:
        nonlocal draining
        lock.acquire()
        if draining:
            if fixed:
                lock.release()
            else:
                lock.acquire()
            return
        draining = True
        if fixed:
            lock.release()

    go(serve)
    for _ in range(3):
        stop_gracefully()


@blocking("grpc", 862)
def grpc_862(fixed: bool) -> None:
    """Dialling gives up because its context has ended, and leaves behind the task that looks after the connection.

    Fixed: whoever returns without a connection closes what has been begun of it.
    """
    dialling = Context.background().with_cancel()

    def look_after(context: Context) -> None:
        for attempt in range(3):
            context.with_timeout(0.001).cancel()  # An attempt, which fails.
            if select(after(0.0002 * attempt), context.done).index == 1:
                return
        context.done.recv_ok()  # Connected, until somebody closes it.

    def dial() -> None:
        connection = Context.background().with_cancel()
        go(look_after, connection.with_cancel())
        dialling.done.recv_ok()
        if fixed:
            connection.cancel()

    go(dial)
    go(dialling.cancel)


@blocking("grpc", 1275)
def grpc_1275(fixed: bool) -> None:
    """A stream is closed while somebody reads from it, and the reader is not told.

    Fixed: closing the stream sends the reader a last message.
    """
    received = Channel[None]()
    done = Channel[None]()

    def read() -> None:
        with done:
            received.recv()

    def close_stream() -> None:
        if fixed:
            received.send(None)

    go(read)
    close_stream()
    timer = Timer(0.002)
    if select(done, timer.channel).index == 0:
        timer.stop()


@blocking("grpc", 1353)
def grpc_1353(fixed: bool) -> None:
    """A balancer sends its news of addresses with its lock held, and whoever takes them needs the lock to go on.

    Fixed: the latest news replaces what has not been taken, so that sending never waits.
    """
    lock = Mutex()
    news = Channel[bool](1 if fixed else 0)
    all_sent = Channel[None]()
    connections = [Mutex(), Mutex()]

    def watch_addresses() -> None:
        with all_sent:
            for _ in range(3):
                with lock:
                    if fixed:
                        select(news, default=True)
                    news.send(True)

    def follow_balancer() -> None:
        for _ in news:
            for connection in connections:
                with connection, lock:  # The connection is torn down, and the balancer counts one less.
                    pass

    def close_at_end() -> None:
        all_sent.recv_ok()
        with lock:
            news.close()

    go(watch_addresses)
    go(follow_balancer)
    go(close_at_end)


@blocking("grpc", 1424)
def grpc_1424(fixed: bool) -> None:
    """A watcher ends without a word when there is no news any more, and whoever has started it waits for the word.

    Fixed: the watcher closes the channel for the word, however it ends.
    """
    news = Channel[bool]()

    def watch(done: Channel[None]) -> None:
        for _ in news:
            pass
        if fixed:
            done.close()

    def start_watching(started: Channel[None]) -> None:
        with started:
            done = Channel[None]()
            go(watch, done)
            done.recv_ok()

    def dial() -> None:
        go(start_watching, Channel(1))
        news.close()

    go(dial)


@blocking("grpc", 1460)
def grpc_1460(fixed: bool) -> None:
    """A client keeps its lock while it sleeps until there is a stream, and a new stream needs the lock.

    Fixed: it releases the lock first, and a call to wake up that comes before it sleeps is kept for it.
    """
    lock = Mutex()
    wake_up = Channel[None](1 if fixed else 0)
    streams: list[str] = []

    def keep_alive() -> None:
        lock.acquire()
        if streams:
            lock.release()
        elif fixed:
            lock.release()
            wake_up.recv()
        else:
            wake_up.recv()
            lock.release()

    def new_stream() -> None:
        with lock:
            streams.append("stream")
            if len(streams) == 1:
                select(wake_up.sending(None), default=True)

    go(keep_alive)
    go(new_stream)


@blocking("grpc", 3017)
def grpc_3017(fixed: bool) -> None:
    """What drops an unused connection finds that it is used again just now, and returns with the lock held.

    Fixed: the lock is released on that way out too.
    """
    lock = Mutex()
    unused: dict[str, Callable[[], None]] = {}
    done = Channel[None]()

    def use() -> None:
        with lock:
            keep = unused.pop("connection", None)
            if keep is not None:
                keep()

    def leave() -> None:
        used_again = False

        def drop() -> None:
            lock.acquire()
            if used_again:
                if fixed:
                    lock.release()
                return
            del unused["connection"]
            lock.release()

        def keep() -> None:
            nonlocal used_again
            if not stop():
                used_again = True  # Too late to stop it: it has to notice.

        with lock:
            unused["connection"] = keep
            stop = after_func(0.0002, drop)

    def use_again_and_again() -> None:
        with done:
            for _ in range(4):
                leave()
                use()

    go(use_again_and_again)
    done.recv_ok()
