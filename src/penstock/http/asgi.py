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
    from penstock.patterns.backpressure import PressureGauge

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

__all__ = ["BackpressureMiddleware"]

OVERLOADED = 503
FAILED = 500


@final
class BackpressureMiddleware:
    """Lets requests through to `application` while `gauge` has room; answers the others 503, with `Retry-After`.

    A request holds its permit until the application has sent the last of the body. It counts as a success; answered
    503, as a drop; answered with another error of the server, raised or cut short, it is ignored. A client that
    disconnects ends the request's context, which interrupts the application, and frees the permit.

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
        answer = _Answer(send)
        with permit:
            async with cancel_scope() as context:
                connection = _Connection(receive, context)
                with context.attach():
                    watching = go(connection.watch)
                try:
                    await self._application(scope, connection.receive, answer.send)
                finally:
                    watching.cancel()
            if context.cause is connection:
                permit.ignore()
            elif answer.status == OVERLOADED:
                permit.drop()
            elif answer.status >= FAILED:
                permit.ignore()

    async def _reject(self, send: Send) -> None:
        body = self._rejection.body
        headers = [(name.encode(), value.encode()) for name, value in self._rejection.headers(body)]
        await send({"type": "http.response.start", "status": self._rejection.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Answer:
    """Notes the status on its way out."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class _Connection:
    """Receives one message ahead of the application, to see the client go."""

    def __init__(self, receive: Receive, context: Context) -> None:
        self._receive = receive
        self._context = context
        self._messages: Channel[Message] = Channel()
        self._last: Message = {"type": "http.disconnect"}

    async def watch(self) -> None:
        with self._messages:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._context.cancel(self)
                    return
                await self._messages.asend(message)

    async def receive(self) -> Message:
        message, ok = await self._messages.arecv_ok()
        return message if ok and message is not None else self._last
