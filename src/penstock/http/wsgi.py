"""A gauge before a WSGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from penstock.errors import OutOfCapacity
from penstock.http.rejection import REASONS, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from penstock.patterns.backpressure import Permit, PressureGauge

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

__all__ = ["BackpressureMiddleware"]


@final
class BackpressureMiddleware:
    """Lets requests through to `application` while `gauge` has room; answers the others 503, with `Retry-After`.

    A request holds its permit until the server closes the body, as it does once it has taken the last of it, or when
    the client has gone. It counts as a success; answered 503, as a drop; answered with another error of the server, or
    cut short, it is ignored. `gauge` may be a function of the WSGI environment that gives a gauge, one for each client,
    say; what that rejects is answered 429, or `status`. Where it gives None, the request passes freely. `retry_after`
    is in seconds, and drawn between that and twice that.
    """

    def __init__(
        self,
        application: Application,
        gauge: PressureGauge | Callable[[dict[str, Any]], PressureGauge | None],
        *,
        status: int | None = None,
        retry_after: float = 1.0,
    ) -> None:
        self._application = application
        self._rejection = Rejection(gauge, status, retry_after)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """As the server calls it."""
        gauge = self._rejection.gauge_of(environ)
        if gauge is None:
            return self._application(environ, start_response)
        try:
            permit = gauge.acquire()
        except OutOfCapacity:
            body = self._rejection.body
            status = self._rejection.status
            start_response(f"{status} {REASONS[status]}", self._rejection.headers(body))
            return [body]
        answer = _Answer(start_response)
        try:
            return _Body(self._application(environ, answer.start), permit, answer)
        except BaseException:
            permit.ignore()
            raise


class _Answer:
    """Notes the status on its way out."""

    def __init__(self, start_response: Callable[..., Any]) -> None:
        self._start_response = start_response
        self.status = ""

    def start(self, status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        self.status = status
        return self._start_response(status, headers, *error)


class _Body:
    """The body, which holds the permit until it is closed."""

    def __init__(self, body: Iterable[bytes], permit: Permit, answer: _Answer) -> None:
        self._body = body
        self._permit = permit
        self._answer = answer
        self._whole = False
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:  # noqa: UP028  left halfway, 'yield from' would close it, and `close` once more
            yield part
        self._whole = True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True  # The application's body is closed once, whatever comes of it (PEP 3333).
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            if self._answer.status.startswith("503"):
                self._permit.drop()
            elif self._answer.status.startswith("5") or not self._whole:
                self._permit.ignore()
            else:
                self._permit.release()

    def __del__(self) -> None:
        self.close()  # By servers that do not.
