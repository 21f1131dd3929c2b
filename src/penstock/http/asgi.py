"""A gauge before an ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from penstock.channel import Channel
from penstock.context import cancel_scope
from penstock.errors import OutOfCapacity
from penstock.group import go
from penstock.http.rejection import Rejection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from penstock.context import Context
    from penstock.patterns.backpressure import Permit, PressureGauge

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

__all__ = ["BackpressureMiddleware"]

OVERLOADED = 503
FAILED = 500
LAST_PARTS = {"http.response.body", "http.response.zerocopysend", "http.response.pathsend"}
"""Messages with which an answer ends, unless they say that more comes."""
PARTS_AHEAD = 2
"""Of the request, kept for an application that has not read them, or never does."""


@final
class BackpressureMiddleware:
    """Lets requests through to `application` while `gauge` has room; answers the others 503, with `Retry-After`.

    A request holds its permit until the application has sent the last of the body. It counts as a success; answered
    503, as a drop; answered with another error of the server, raised or cut short, it is ignored. A client that
    disconnects before ends the request's context, which interrupts the application, and frees the permit. What the
    application does after its answer (Starlette's background tasks) holds no permit, and is not interrupted. The
    request is read ahead by two parts at most; that the client has gone is seen once the rest of it has been read.

    `gauge` may be a function of the ASGI scope that gives a gauge, one for each client, say; what that rejects is
    answered 429, or `status`. Where it gives None, the request passes freely. `retry_after` is in seconds, and drawn
    between that and twice that. Everything but HTTP requests (WebSockets, lifespan) passes through.
    """

    def __init__(
        self,
        application: Application,
        gauge: PressureGauge | Callable[[MutableMapping[str, Any]], PressureGauge | None],
        *,
        status: int | None = None,
        retry_after: float = 1.0,
    ) -> None:
        self._application = application
        self._rejection = Rejection(gauge, status, retry_after)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """As the server calls it."""
        gauge = self._rejection.gauge_of(scope) if scope["type"] == "http" else None
        if gauge is None:
            await self._application(scope, receive, send)
            return
        try:
            permit = await gauge.aacquire()
        except OutOfCapacity:
            await self._reject(send)
            return
        with permit:
            async with cancel_scope() as context:
                answer = _Answer(send, permit)
                connection = _Connection(receive, answer, context)
                with context.attach():
                    watching = go(connection.watch)
                try:
                    await self._application(scope, connection.receive, answer.send)
                finally:
                    watching.cancel()
            if not permit.released:
                permit.ignore()  # Cut short.

    async def _reject(self, send: Send) -> None:
        body = self._rejection.body
        headers = [(name.encode(), value.encode()) for name, value in self._rejection.headers(body)]
        await send({"type": "http.response.start", "status": self._rejection.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Answer:
    """Notes the status on its way out, and gives back the permit behind the last of the body."""

    def __init__(self, send: Send, permit: Permit) -> None:
        self._send = send
        self._permit = permit
        self._status = 0
        self.whole = False
        """Has the last of it been sent?"""

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
        elif kind in LAST_PARTS and not message.get("more_body", False):
            self.whole = True  # From now on the server may tell of a disconnection that is none.
        await self._send(message)
        if self.whole and not self._permit.released:
            if self._status == OVERLOADED:
                self._permit.drop()
            elif self._status >= FAILED:
                self._permit.ignore()
            else:
                self._permit.release()


class _Connection:
    """Receives ahead of the application, to see the client go."""

    def __init__(self, receive: Receive, answer: _Answer, context: Context) -> None:
        self._receive = receive
        self._answer = answer
        self._context = context
        self._messages: Channel[Message] = Channel(PARTS_AHEAD)
        self._last: Message = {"type": "http.disconnect"}

    async def watch(self) -> None:
        with self._messages:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    if not self._answer.whole:
                        self._context.cancel("the client has disconnected")
                    return
                await self._messages.asend(message)

    async def receive(self) -> Message:
        message, ok = await self._messages.arecv_ok()
        return message if ok and message is not None else self._last
