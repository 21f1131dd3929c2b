"""A server to try a load on: requests that cost something, behind a gauge. Started by `penstock serve`.

GET /             works for 50 milliseconds on a processor that it has to share
GET /statistics   the gauge, as JSON; never rejected

All else is answered 404.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.http.asgi import BackpressureMiddleware
from penstock.patterns.backpressure import PressureGauge, Vegas
from penstock.sync import Semaphore
from penstock.time import asleep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]
    Application = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]

SECONDS = 0.05
"""What a request costs."""
AT_ONCE = 10
"""How many the server can work on at once; the others wait, whether they were admitted or not."""


def make_app(limit: int | None = None) -> Application:
    """The application: with a gauge of that limit, none for 0, or one that finds it."""
    gauge = None
    if limit != 0:
        gauge = PressureGauge(Vegas(initial=AT_ONCE) if limit is None else limit, queue=AT_ONCE, max_wait=1.0)
    machine = Semaphore(AT_ONCE)

    async def application(scope: Message, _receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/statistics":
            await _answer(send, {} if gauge is None else asdict(gauge.statistics()))
            return
        if scope["path"] != "/":
            await _answer(send, {"error": "there is / and /statistics"}, status=404)
            return
        async with machine:
            await asleep(SECONDS)
        await _answer(send, {"done": True})

    if gauge is None:
        return application
    return BackpressureMiddleware(application, lambda scope: gauge if scope["path"] == "/" else None, status=503)


async def _answer(send: Callable[[Message], Awaitable[None]], content: object, status: int = 200) -> None:
    body = json.dumps(content).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
