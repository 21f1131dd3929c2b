"""Middleware for WSGI."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from penstock import PressureGauge
from penstock.http.wsgi import BackpressureMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Application:
    """A body in parts."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.closed = False

    def __call__(self, _environ: Any, start_response: Callable[..., Any]) -> Any:
        start_response(self.status, [])
        return self._body()

    def _body(self) -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            self.closed = True


class Counting:
    """A body that counts how often it is closed."""

    def __init__(self) -> None:
        self.parts = iter([b"a", b"b"])
        self.closed = 0

    def __call__(self, _environ: Any, start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [])
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.parts)

    def close(self) -> None:
        self.closed += 1


def request(application: Any, **environ: Any) -> tuple[str, dict[str, str], Any]:
    seen: list[Any] = []
    body = application(environ, lambda status, headers, *_error: seen.append((status, dict(headers))))
    return (*seen[0], body)


def test_a_body_holds_its_permit_to_the_end() -> None:
    gauge = PressureGauge(1)
    inner = Application()
    application = BackpressureMiddleware(inner, gauge, retry_after=10)
    status, _, body = request(application)
    assert status == "200 OK"
    parts = iter(body)
    assert next(parts) == b"a"
    rejected, headers, text = request(application)
    assert rejected == "503 Service Unavailable"
    assert 10 <= int(headers["retry-after"]) <= 20
    assert b"over capacity" in b"".join(text)
    assert list(parts) == [b"b"]
    assert gauge.in_flight == 1
    body.close()
    assert gauge.in_flight == 0
    assert inner.closed
    body.close()


def test_a_client_that_has_gone() -> None:
    gauge = PressureGauge(1)
    inner = Application()
    _, _, body = request(BackpressureMiddleware(inner, gauge))
    next(iter(body))
    body.close()
    assert gauge.in_flight == 0
    _, _, body = request(BackpressureMiddleware(inner, gauge))
    del body
    gc.collect()
    assert gauge.in_flight == 0


@pytest.mark.parametrize("taken", [0, 1, 2])
@pytest.mark.parametrize("closes", [True, False])
def test_the_body_is_closed_once(taken: int, closes: bool) -> None:
    """PEP 3333, by a server that takes all or some of it, and closes it or only drops it."""
    gauge = PressureGauge(1)
    inner = Counting()
    _, _, body = request(BackpressureMiddleware(inner, gauge))
    parts = iter(body)
    for _ in range(taken):
        next(parts)
    del parts
    gc.collect()
    if closes:
        body.close()
        assert inner.closed == 1
        assert gauge.in_flight == 0
    del body
    gc.collect()
    assert inner.closed == 1
    assert gauge.in_flight == 0


def test_a_body_whose_close_fails_is_closed_once() -> None:
    class Failing(Counting):
        def close(self) -> None:
            super().close()
            raise LookupError("broken")

    gauge = PressureGauge(1)
    inner = Failing()
    _, _, body = request(BackpressureMiddleware(inner, gauge))
    with pytest.raises(LookupError, match="broken"):
        body.close()
    assert gauge.in_flight == 0
    del body
    gc.collect()
    assert inner.closed == 1


@pytest.mark.parametrize(("status", "dropped"), [("200 OK", 0), ("503 Service Unavailable", 1), ("500 No", 0)])
def test_outcomes(status: str, dropped: int) -> None:
    gauge = PressureGauge(1)
    _, _, body = request(BackpressureMiddleware(Application(status), gauge))
    assert b"".join(body) == b"ab"
    body.close()
    assert gauge.in_flight == 0
    assert gauge.statistics().dropped == dropped


def test_errors_free_the_permit() -> None:
    def fails(_environ: Any, _start_response: Any) -> Any:
        raise LookupError("broken")

    gauge = PressureGauge(1)
    with pytest.raises(LookupError, match="broken"):
        request(BackpressureMiddleware(fails, gauge))
    assert gauge.in_flight == 0


def test_a_gauge_for_each_client() -> None:
    gauge = PressureGauge(1)
    held = gauge.acquire()
    application = BackpressureMiddleware(Application(), lambda environ: gauge if environ["client"] == "a" else None)
    assert request(application, client="a")[0] == "429 Too Many Requests"
    assert request(application, client="b")[0] == "200 OK"
    held.release()


def test_a_function_that_gives_no_gauge() -> None:
    application = BackpressureMiddleware(Application(), lambda _environ: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="must give a PressureGauge, or None to let a request pass, not 3"):
        request(application)
