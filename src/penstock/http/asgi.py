"""A gauge before an ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from penstock._kernel.loops import running_event_loop
from penstock.channel import Channel
from penstock.context import cancel_scope
from penstock.errors import OutOfCapacity
from penstock.group import go
from penstock.http.rejection import Rejection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from penstock.context import Context
    from penstock.group import Task
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
    disconnects before ends the request's context, which takes it out of the gauge's queue, or interrupts the
    application and frees the permit. What the application does after its answer (Starlette's background tasks) holds
    no permit, and is not interrupted. The request is read ahead by three parts at most; that the client has gone is
    seen once the rest of it has been read. An error of the server's `receive` is raised where the application receives.

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
        async with cancel_scope() as context:
            connection = _Connection(receive, context)
            try:
                try:
                    permit = await connection.acquire(gauge)
                except OutOfCapacity:
                    await self._reject(send)
                    return
                with permit:
                    context.check()  # The client may have gone in the instant of its admission.
                    connection.watch()
                    await self._application(scope, connection.receive, _Answer(send, permit, connection).send)
                    if not permit.released:
                        permit.ignore()  # Cut short.
            finally:
                connection.leave()

    async def _reject(self, send: Send) -> None:
        body = self._rejection.body
        headers = [(name.encode(), value.encode()) for name, value in self._rejection.headers(body)]
        await send({"type": "http.response.start", "status": self._rejection.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Answer:
    """Notes the status on its way out, and gives back the permit behind the last of the body."""

    def __init__(self, send: Send, permit: Permit, connection: _Connection) -> None:
        self._send = send
        self._permit = permit
        self._connection = connection
        self._status = 0

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
        elif kind in LAST_PARTS and not message.get("more_body", False):
            self._connection.answered = True
        await self._send(message)
        if self._connection.answered and not self._permit.released:
            if self._status == OVERLOADED:
                self._permit.drop()
            elif self._status >= FAILED:
                self._permit.ignore()
            else:
                self._permit.release()


class _Connection:
    """Receives ahead of the application, to see the client go."""

    def __init__(self, receive: Receive, context: Context) -> None:
        self._receive = receive
        self._context = context
        self._messages: Channel[Message] = Channel(PARTS_AHEAD)
        self._watching: Task[None] | None = None
        self.answered = False
        """Is the answer complete? From then on the server may tell of a disconnection that is none."""

    async def acquire(self, gauge: PressureGauge) -> Permit:
        """A permit of the gauge. Who has to wait for it is watched meanwhile."""
        waits = running_event_loop().call_soon(self.watch)
        try:
            return await gauge.aacquire()
        finally:
            waits.cancel()  # Admitted or rejected at once, it has not been called, and costs next to nothing.

    def watch(self) -> None:
        """Begin to receive, unless that has begun."""
        if self._watching is None:
            self._watching = go(self._receive_ahead)

    def leave(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _receive_ahead(self) -> None:
        with self._messages:
            while True:
                try:
                    message = await self._receive()
                except Exception as error:  # noqa: BLE001  raised where the application receives
                    self._messages.close(error)
                    return
                if message["type"] == "http.disconnect":
                    if not self.answered:
                        self._context.cancel("the client has disconnected")
                    return
                await self._messages.asend(message)

    async def receive(self) -> Message:
        """As the application calls it."""
        message, ok = await self._messages.arecv_ok()
        if ok and message is not None:
            return message
        if self._messages.error is not None:
            raise self._messages.error
        return {"type": "http.disconnect"}
