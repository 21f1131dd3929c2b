"""A server with a gauge: what it has no capacity for is rejected at once, and the rest is served in time.

    penstock serve            starts it; or: uvicorn examples.server:app

Try a load on it, as with `wrk -c 200 -d 10 http://127.0.0.1:8000/`, and look at http://127.0.0.1:8000/statistics.
"""

from __future__ import annotations

from penstock.http.demo import make_app

app = make_app()
