"""Middleware for ASGI: rejection, outcomes, streaming, disconnection, pass-through."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from penstock import AIMD, PressureGauge
from penstock.http.asgi import BackpressureMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable


class Client:
    """One request."""

    def __init__(self, **scope: Any) -> None:
        self.scope = {"type": "http", "path": "/", **scope}
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def start(self, application: Any) -> asyncio.Task[Any]:
        return asyncio.ensure_future(application(self.scope, self.inbox.get, self.send))

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


class Application:
    """Answers when it is let, in parts."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.go_on = asyncio.Event()
        self.started = asyncio.Event()
        self.cut_short = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await send({"type": scope["type"]})
            return
        assert (await receive())["type"] == "http.request"
        self.started.set()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        try:
            await self.go_on.wait()
        except BaseException:
            self.cut_short = True
            raise
        await send({"type": "http.response.body", "body": b"b"})


def test_what_does_not_fit_is_answered_503() -> None:
    async def body() -> None:
        gauge = PressureGauge(1)
        inner = Application()
        application = BackpressureMiddleware(inner, gauge, retry_after=10)
        first, second = Client(), Client()
        task = first.start(application)
        await inner.started.wait()
        assert gauge.in_flight == 1
        await second.start(application)
        assert second.status == 503
        assert 10 <= int(second.headers[b"retry-after"]) <= 20
        assert b"over capacity" in second.sent[1]["body"]
        # A streaming body holds its permit to the end.
        assert len(first.sent) == 2
        assert gauge.in_flight == 1
        inner.go_on.set()
        await task
        assert [message.get("body") for message in first.sent] == [None, b"a", b"b"]
        assert gauge.statistics().in_flight == 0
        assert len(asyncio.all_tasks()) == 1 or await settled()

    asyncio.run(body())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.002)


async def settled() -> bool:
    for _ in range(100):
        if len(asyncio.all_tasks()) == 1:
            return True
        await asyncio.sleep(0.01)
    return False


def test_those_who_come_again_do_not_come_together() -> None:
    async def body() -> None:
        gauge = PressureGauge(1)
        waits = set()
        with gauge.acquire():
            for _ in range(60):
                client = Client()
                await client.start(BackpressureMiddleware(Application(), gauge, retry_after=10))
                waits.add(int(client.headers[b"retry-after"]))
        assert len(waits) >= 4
        assert waits <= set(range(10, 21))

    asyncio.run(body())


def test_a_client_that_disconnects_frees_its_permit() -> None:
    async def body() -> None:
        gauge = PressureGauge(1)
        inner = Application()
        application = BackpressureMiddleware(inner, gauge)
        client = Client()
        task = client.start(application)
        await inner.started.wait()
        client.inbox.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(task, 10)
        assert inner.cut_short
        assert gauge.in_flight == 0
        assert await settled()

    asyncio.run(body())


def test_a_client_is_seen_to_go_although_nobody_reads_the_request() -> None:
    async def deaf(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(30)

    async def body() -> None:
        for parts in (1, 2):
            gauge = PressureGauge(1)
            client = Client()
            if parts == 2:
                client.inbox = asyncio.Queue()
                client.inbox.put_nowait({"type": "http.request", "body": b"a", "more_body": True})
                client.inbox.put_nowait({"type": "http.request", "body": b"b", "more_body": False})
            task = client.start(BackpressureMiddleware(deaf, gauge))
            await asyncio.sleep(0.02)
            assert gauge.in_flight == 1
            client.inbox.put_nowait({"type": "http.disconnect"})
            await asyncio.wait_for(task, 10)
            assert gauge.in_flight == 0
        assert await settled()

    asyncio.run(body())


def test_clients_that_disconnect_free_their_places_in_the_queue() -> None:
    async def body() -> None:
        gauge = PressureGauge(1, queue=5)
        held = gauge.acquire()
        inner = Application()
        inner.go_on.set()
        application = BackpressureMiddleware(inner, gauge)
        clients = [Client() for _ in range(5)]
        tasks = [client.start(application) for client in clients]
        await until(lambda: gauge.statistics().queued == 5)
        for client in clients:
            client.inbox.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert gauge.statistics().queued == 0
        assert not any(client.sent for client in clients)
        assert not inner.started.is_set()
        alive = Client()
        task = alive.start(application)
        await until(lambda: gauge.statistics().queued == 1)
        held.release()
        await asyncio.wait_for(task, 10)
        assert alive.status == 200
        assert gauge.in_flight == 0
        assert gauge.statistics().rejected == 0
        assert await settled()

    asyncio.run(body())


def test_a_client_that_disconnects_in_the_instant_of_its_admission() -> None:
    started = []

    async def deaf(_scope: Any, _receive: Any, _send: Any) -> None:
        started.append(True)
        await asyncio.sleep(30)

    async def body() -> None:
        for gone_first in (True, False):
            gauge = PressureGauge(1, queue=1)
            held = gauge.acquire()
            client = Client()
            task = client.start(BackpressureMiddleware(deaf, gauge))
            await until(lambda gauge=gauge, client=client: gauge.statistics().queued and client.inbox.empty())
            if gone_first:
                client.inbox.put_nowait({"type": "http.disconnect"})
                held.release()
            else:
                assert not started
                held.release()
                client.inbox.put_nowait({"type": "http.disconnect"})
            await asyncio.wait_for(task, 10)
            assert gauge.in_flight == gauge.statistics().queued == 0
        assert await settled()

    asyncio.run(body())


def test_what_is_received_in_the_queue_reaches_the_application() -> None:
    async def body() -> None:
        gauge = PressureGauge(1, queue=1)
        held = gauge.acquire()
        parts = []

        async def inner(_scope: Any, receive: Any, send: Any) -> None:
            more = True
            while more:
                message = await receive()
                parts.append(message["body"])
                more = message["more_body"]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        client = Client()
        client.inbox = asyncio.Queue()
        for number in range(10):
            client.inbox.put_nowait({"type": "http.request", "body": b"%d" % number, "more_body": number < 9})
        task = client.start(BackpressureMiddleware(inner, gauge))
        await until(lambda: client.inbox.qsize() == 10 - 3)  # Two are kept, and one is held out.
        held.release()
        await asyncio.wait_for(task, 10)
        assert b"".join(parts) == b"0123456789"
        assert client.status == 200
        assert await settled()

    asyncio.run(body())


def test_who_has_waited_in_vain_is_watched_no_longer() -> None:
    async def body() -> None:
        gauge = PressureGauge(1, queue=1, max_wait=0.02)
        with gauge.acquire():
            client = Client()
            await asyncio.wait_for(client.start(BackpressureMiddleware(Application(), gauge)), 10)
            assert client.status == 503
            assert client.inbox.empty()
            assert await settled()

    asyncio.run(body())


def test_a_server_that_cancels_who_waits() -> None:
    async def body() -> None:
        gauge = PressureGauge(1, queue=1)
        with gauge.acquire():
            client = Client()
            task = client.start(BackpressureMiddleware(Application(), gauge))
            await until(lambda: gauge.statistics().queued and client.inbox.empty())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)
            assert gauge.statistics().queued == 0
            assert await settled()

    asyncio.run(body())


def test_who_is_rejected_at_once_is_not_watched() -> None:
    async def body() -> None:
        gauge = PressureGauge(1)
        with gauge.acquire():
            client = Client()
            await client.start(BackpressureMiddleware(Application(), gauge))
            await asyncio.sleep(0)
            assert client.inbox.qsize() == 1

    asyncio.run(body())


@pytest.mark.parametrize("queues", [False, True])
def test_errors_of_the_servers_receive_are_raised_where_the_application_receives(queues: bool) -> None:
    seen = []

    async def inner(_scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"a"
        for _ in range(2):
            try:
                await receive()
            except OSError as error:
                seen.append(str(error))
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def body() -> None:
        gauge = PressureGauge(1, queue=1)
        held = gauge.acquire() if queues else None
        client = Client()
        messages = [{"type": "http.request", "body": b"a", "more_body": True}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            raise OSError("broken")

        application = BackpressureMiddleware(inner, gauge)
        task = asyncio.ensure_future(application(client.scope, receive, client.send))
        if held is not None:
            await until(lambda: gauge.statistics().queued and not messages)
            held.release()
        await asyncio.wait_for(task, 10)
        assert seen == ["broken", "broken"]
        assert client.status == 400
        assert gauge.in_flight == 0
        assert await settled()

    asyncio.run(body())
    gc.collect()  # An error that nobody has collected would be reported now.


def test_what_comes_after_the_answer_holds_no_permit_and_is_not_interrupted() -> None:
    """Servers report a disconnection once an answer is complete; Starlette runs background tasks then."""

    async def body() -> None:
        gauge = PressureGauge(AIMD(initial=1))
        client = Client()
        events = []

        async def inner(_scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all"})
            events.append(gauge.in_flight)
            client.inbox.put_nowait({"type": "http.disconnect"})
            assert (await receive())["type"] == "http.disconnect"
            await asyncio.sleep(0.02)
            events.append("finished")

        await client.start(BackpressureMiddleware(inner, gauge))
        assert events == [0, "finished"]
        assert gauge._window._number == 1  # It counts as a success.
        assert await settled()

    asyncio.run(body())


def test_an_answer_that_is_cut_short_is_ignored() -> None:
    async def inner(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    async def body() -> None:
        gauge = PressureGauge(1)
        await Client().start(BackpressureMiddleware(inner, gauge))
        assert gauge.in_flight == 0
        assert gauge.statistics().dropped == 0

    asyncio.run(body())


@pytest.mark.parametrize(("status", "dropped"), [(200, 0), (503, 1), (500, 0)])
def test_outcomes(status: int, dropped: int) -> None:
    async def body() -> None:
        gauge = PressureGauge(1)
        inner = Application(status)
        inner.go_on.set()
        await Client().start(BackpressureMiddleware(inner, gauge))
        assert gauge.in_flight == 0
        assert gauge.statistics().dropped == dropped

    asyncio.run(body())


def test_errors_of_the_application_pass_and_free_the_permit() -> None:
    async def fails(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError("broken")

    async def body() -> None:
        gauge = PressureGauge(1)
        with pytest.raises(LookupError, match="broken"):
            await Client().start(BackpressureMiddleware(fails, gauge))
        assert gauge.in_flight == 0

    asyncio.run(body())


def test_websockets_and_lifespan_pass_through() -> None:
    async def body() -> None:
        gauge = PressureGauge(1)
        held = gauge.acquire()
        for kind in ("websocket", "lifespan"):
            client = Client(type=kind)
            await client.start(BackpressureMiddleware(Application(), gauge))
            assert client.sent == [{"type": kind}]
        held.release()

    asyncio.run(body())


def test_a_gauge_for_each_client() -> None:
    async def body() -> None:
        gauges = {"greedy": PressureGauge(1), "modest": PressureGauge(1)}
        held = gauges["greedy"].acquire()
        inner = Application()
        inner.go_on.set()
        application = BackpressureMiddleware(inner, lambda scope: gauges.get(scope["client"]))
        for client, status in (("greedy", 429), ("modest", 200), ("unknown", 200)):
            request = Client(client=client)
            await request.start(application)
            assert request.status == status
        held.release()

    asyncio.run(body())


def test_misuse() -> None:
    with pytest.raises(TypeError, match="gauge must be a PressureGauge"):
        BackpressureMiddleware(Application(), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="retry_after must be more than 0"):
        BackpressureMiddleware(Application(), PressureGauge(1), retry_after=0)
    with pytest.raises(ValueError, match="retry_after must be more than 0 seconds, and finite, not inf"):
        BackpressureMiddleware(Application(), PressureGauge(1), retry_after=float("inf"))
    with pytest.raises(TypeError, match="retry_after must be a number of seconds, not 'x'"):
        BackpressureMiddleware(Application(), PressureGauge(1), retry_after="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="status must be one of 429, 503, not 200"):
        BackpressureMiddleware(Application(), PressureGauge(1), status=200)
    with pytest.raises(ValueError, match="status must be one of 429, 503, not '503'"):
        BackpressureMiddleware(Application(), PressureGauge(1), status="503")  # type: ignore[arg-type]


SERVE = [sys.executable, "-m", "penstock", "serve"]


def test_penstock_serve() -> None:
    """The whole way: a server in a process of its own, and more clients than it has room for."""
    command = [*SERVE, "--port", "0", "--limit", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            found = re.fullmatch(r"penstock: listening on (http://\S+)/ \(Ctrl-C ends it\)\n", server.stderr.readline())
            assert found is not None
            url = found[1]

            def get(path: str) -> tuple[int, Any]:
                try:
                    with urllib.request.urlopen(url + path, timeout=20) as response:
                        return response.status, json.load(response)
                except urllib.error.HTTPError as error:
                    with error:
                        return error.code, error.headers["Retry-After"]

            assert get("/nosuch") == (404, None)
            with ThreadPoolExecutor(40) as executor:
                answers = list(executor.map(lambda _: get("/"), range(40)))
            assert {status for status, _ in answers} == {200, 503}
            assert all(int(content) >= 1 for status, content in answers if status == 503)
            deadline = time.monotonic() + 10
            while (statistics := get("/statistics")[1])["in_flight"]:
                assert time.monotonic() < deadline
            assert statistics["admitted"] == sum(status == 200 for status, _ in answers)
            if os.name == "posix":
                server.send_signal(signal.SIGINT)
                assert server.communicate(timeout=20) == ("", "")
                assert server.returncode == 0
        finally:
            server.kill()


def test_penstock_serve_on_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*SERVE, "--port", port], capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot listen: ")
    assert done.stderr.count("\n") == 1
