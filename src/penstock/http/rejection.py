"""What both kinds of middleware answer when there is no capacity."""

from __future__ import annotations

import random
from math import inf
from typing import TYPE_CHECKING, Any

from penstock.patterns.backpressure import PressureGauge

if TYPE_CHECKING:
    from collections.abc import Callable

REASONS = {429: "Too Many Requests", 503: "Service Unavailable"}


class Rejection:
    """Which gauge a request has to pass, and the answer if it does not."""

    def __init__(self, gauge: Any, status: Any, retry_after: Any) -> None:
        if not isinstance(gauge, PressureGauge) and not callable(gauge):
            raise TypeError(f"gauge must be a PressureGauge, or a function of a request that gives one, not {gauge!r}")
        if status is not None and (not isinstance(status, int) or status not in REASONS):
            raise ValueError(f"status must be one of {', '.join(map(str, REASONS))}, not {status!r}")
        if not isinstance(retry_after, int | float):
            raise TypeError(f"retry_after must be a number of seconds, not {retry_after!r}")
        if not 0 < retry_after < inf:
            raise ValueError(f"retry_after must be more than 0 seconds, and finite, not {retry_after}")
        self._gauge: PressureGauge | None = gauge if isinstance(gauge, PressureGauge) else None
        self._choose: Callable[[Any], PressureGauge | None] | None = None if self._gauge is not None else gauge
        self._retry_after: float = retry_after
        self.status: int = status if status is not None else 503 if self._gauge is not None else 429

    def gauge_of(self, request: Any) -> PressureGauge | None:
        """None: this request passes freely."""
        if self._choose is None:
            return self._gauge
        gauge = self._choose(request)
        if gauge is not None and not isinstance(gauge, PressureGauge):
            raise TypeError(f"{self._choose!r} must give a PressureGauge, or None to let a request pass, not {gauge!r}")
        return gauge

    def headers(self, body: bytes) -> list[tuple[str, str]]:
        """Those who come again are spread over as long as they wait at least, so that they do not come together."""
        seconds = self._retry_after * (1 + random.random())  # noqa: S311  no secret
        return [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("retry-after", str(max(1, round(seconds)))),
        ]

    @property
    def body(self) -> bytes:
        return f"{REASONS[self.status]}: over capacity, try again later\n".encode()
