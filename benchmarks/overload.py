"""Goodput under overload: `python -m benchmarks.overload` prints one table.

A server that can work on so many requests at once, behind each of several limits, under loads of 0.5 to 10 times its
capacity, stepping up and down. The clients are an open loop, in a process of its own: requests come as they come
(Poisson), whatever becomes of those before, and their latency counts from when they were meant to be sent. A client
goes when it has waited for PATIENCE times the work; an answer is good, if it comes within DEADLINE times.

Needs uvicorn. The work is sleep, so that the processor is no bottleneck.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

from penstock import AIMD, Gradient2, PressureGauge, Vegas
from penstock.http.asgi import BackpressureMiddleware

LOADS = (0.5, 1.0, 2.0, 5.0, 10.0)
STEPS = (*LOADS, *reversed(LOADS[:-1]), 10.0, 0.5)
"""In terms of capacity: up, down, and from most to least at once."""
DEADLINE, PATIENCE, QUICK = 5.0, 10.0, 3.0
"""In terms of the time that the work takes: a good answer, a client that has gone, and what p99 has to keep below."""
BIN = 0.25
"""Seconds: recovery is looked at in steps of that."""
OK, REJECTED, GIVEN_UP = 200, 503, 0
"""The status of an answer; the last in place of one."""

VARIANTS = ("none", "uvicorn", "fixed", "AIMD", "Vegas", "Gradient2")


# The server


def make_app(work: float, at_once: int, gauge: PressureGauge | None) -> Any:
    """What it can do is `at_once / work` requests a second. `/limit` is always answered."""
    machine = asyncio.Semaphore(at_once)

    async def application(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        body = b"done"
        if scope["path"] == "/limit":
            body = str(0 if gauge is None else gauge.limit).encode()
        else:
            async with machine:
                await asyncio.sleep(work)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    if gauge is None:
        return application
    return BackpressureMiddleware(application, lambda scope: None if scope["path"] == "/limit" else gauge, status=503)


def serve(variant: str, limit: int, work: float, at_once: int) -> None:
    """Print the port, and serve until killed, or until whoever started this has gone."""
    import uvicorn

    threading.Thread(target=lambda: sys.stdin.read() or os._exit(0), daemon=True).start()

    limits = {
        "fixed": lambda: limit,
        "AIMD": lambda: AIMD(timeout=2 * work),  # What takes that long counts as overload: this one has to be told.
        "Vegas": Vegas,
        "Gradient2": Gradient2,
    }
    gauge = PressureGauge(limits[variant]()) if variant in limits else None
    config = uvicorn.Config(
        make_app(work, at_once, gauge),
        log_level="critical",
        access_log=False,
        lifespan="off",
        backlog=4096,
        limit_concurrency=limit if variant == "uvicorn" else None,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listening])


# The clients


class Connection(asyncio.Protocol):
    """One connection to the server, used for one request after the other."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.request: Request | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._clients.text)

    def send(self, request: Request) -> None:
        self.request = request
        if self._transport is not None:
            self._transport.write(self._clients.text)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        _, known, length = lower.partition(b"content-length:")
        if known and len(body) < int(length.split(b"\r\n", 1)[0]):
            return
        if not known and not lower.endswith(b"0\r\n\r\n") and b"chunked" in lower and b"0\r\n\r\n" not in body:
            return
        self._buffer = b""
        request, self.request = self.request, None
        if request is not None:
            request.answered(int(head[9:12]))
        if b"connection: close" in lower:
            self.close()
        else:
            self._clients.idle.append(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        request, self.request = self.request, None
        if request is not None:
            request.answered(GIVEN_UP)
        with suppress(ValueError):
            self._clients.idle.remove(self)


class Request:
    """When it was meant to be sent, and what became of it."""

    def __init__(self, meant: float) -> None:
        self.meant = meant
        self.late = monotonic() - meant
        self.status = GIVEN_UP
        self.seconds = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def answered(self, status: int) -> None:
        self.status = status
        self.seconds = monotonic() - self.meant
        if self.timer is not None:
            self.timer.cancel()


class Clients:
    """All of them: an open loop, cheap enough to leave the processor to the server."""

    def __init__(self, port: int, patience: float) -> None:
        self._port = port
        self._patience = patience
        self.text = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
        self.idle: list[Connection] = []
        self._opening: set[asyncio.Task[Any]] = set()

    def send(self, request: Request) -> None:
        if self.idle:
            connection = self.idle.pop()
            connection.send(request)
        else:
            connection = Connection(self)
            connection.request = request
            opening = asyncio.ensure_future(self._open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
        loop = asyncio.get_running_loop()
        request.timer = loop.call_at(request.meant + self._patience, connection.close)

    async def _open(self, connection: Connection) -> None:
        with suppress(OSError):
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: connection, "127.0.0.1", self._port)

    async def run(self, rates: list[float], seconds: float) -> list[list[tuple[float, int, float, float]]]:
        """Of each step, each request: when it was meant to be sent, the status, how long it took, how late it began."""
        rng = random.Random(1)
        steps: list[list[Request]] = [[] for _ in rates]
        begin = due = monotonic() + 0.1
        for number, rate in enumerate(rates):
            end = begin + (number + 1) * seconds
            while True:
                due += rng.expovariate(rate)
                if due >= end:
                    due = end
                    break
                now = monotonic()
                if due > now:
                    await asyncio.sleep(due - now)
                request = Request(due)
                steps[number].append(request)
                self.send(request)
        await asyncio.sleep(self._patience + 0.1)
        for connection in list(self.idle):
            connection.close()
        return [[(one.meant - begin, one.status, one.seconds, one.late) for one in requests] for requests in steps]


def generate(port: int, rates: list[float], seconds: float, patience: float) -> None:
    """Print what became of all requests, as JSON."""
    json.dump(asyncio.run(Clients(port, patience).run(rates, seconds)), sys.stdout)


# The measurement


@dataclass(frozen=True)
class Outcome:
    """What became of one variant."""

    variant: str
    limit: int
    """The median, while the load was at least twice the capacity."""
    goodput: list[float]
    """Of each step: good answers a second, in terms of capacity."""
    p99: list[float]
    """Of each step: seconds, of what was accepted; those who gave up count with their patience."""
    recovery: float
    """Seconds from the end of the load, until answers are as before."""


class Server:
    """A variant in a process of its own."""

    def __init__(self, variant: str, limit: int, chosen: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--serve", variant, "--limit", str(limit)]
        command += ["--work", str(chosen.work), "--at-once", str(chosen.at_once)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __exit__(self, *_error: object) -> None:
        self._process.kill()  # Without a limit there may be minutes of work left.
        self._process.communicate()


def limit_of(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/limit", timeout=10) as response:
        return int(response.read())


def run(variant: str, limit: int, chosen: argparse.Namespace, loads: tuple[float, ...]) -> Outcome:
    """One variant, under those loads."""
    capacity = chosen.at_once / chosen.work
    rates = [load * capacity for load in loads]
    command = [sys.executable, __file__, "--generate", json.dumps(rates), "--seconds", str(chosen.seconds)]
    limits = []
    with Server(variant, limit, chosen) as port:
        command += ["--port", str(port), "--work", str(chosen.work)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as clients:
            begin = monotonic()
            while variant in {"AIMD", "Vegas", "Gradient2"}:
                with suppress(subprocess.TimeoutExpired):
                    clients.wait(0.2)
                step = int((monotonic() - begin) / chosen.seconds)
                if clients.poll() is not None or step >= len(loads):
                    break
                if loads[step] > 1:
                    limits.append(limit_of(port))
            assert clients.stdout is not None
            steps = json.load(clients.stdout)
    if variant in {"fixed", "uvicorn"}:
        limits = [limit]
    late = max(percentile([late for _, _, _, late in step]) for step in steps)
    if late > chosen.work / 2:
        print(f"{variant}: the machine was too busy, requests were sent {late:.3f} s late", file=sys.stderr)
    return Outcome(
        variant,
        int(statistics.median(limits)) if limits else 0,
        [good(step, DEADLINE * chosen.work) / chosen.seconds / capacity for step in steps],
        [p99(step, PATIENCE * chosen.work) for step in steps],
        recovery(steps[-1], (len(loads) - 1) * chosen.seconds, QUICK * chosen.work),
    )


def good(step: list[Any], deadline: float) -> int:
    return sum(status == OK and seconds <= deadline for _, status, seconds, _ in step)


def p99(step: list[Any], patience: float) -> float:
    """Of what was not rejected."""
    return percentile([seconds if status else patience for _, status, seconds, _ in step if status != REJECTED])


def percentile(values: list[float]) -> float:
    """The 99th."""
    return sorted(values)[int(0.99 * len(values))] if values else 0.0


def recovery(step: list[Any], begin: float, quick: float) -> float:
    """The end of the last interval in which less than nine of ten were answered as quickly as without load."""
    bins: dict[int, list[bool]] = {}
    for meant, status, seconds, _ in step:
        bins.setdefault(int((meant - begin) / BIN), []).append(status == OK and seconds <= quick)
    bad = [number for number, answers in bins.items() if sum(answers) < 0.9 * len(answers)]
    return (max(bad) + 1) * BIN if bad else 0.0


def best_fixed(chosen: argparse.Namespace) -> int:
    """The limit with the most goodput at twice and five times the capacity; the smallest of those as good."""
    if chosen.quick:
        return chosen.at_once
    found = {}
    for factor in (0.75, 1.0, 1.25, 1.5, 2.0, 3.0):
        limit = max(1, round(factor * chosen.at_once))
        outcome = run("fixed", limit, chosen, (2.0, 5.0))
        if max(outcome.p99) < QUICK * chosen.work:
            found[limit] = min(outcome.goodput)
    return min(limit for limit, goodput in found.items() if goodput >= 0.99 * max(found.values()))


# Reporting


def heading() -> str:
    return f"{'limit':12}{'':>5}" + "".join(f"{load:>6g}x" for load in STEPS[:-2]) + f"{'p99':>9}{'recovery':>10}"


def row(outcome: Outcome) -> str:
    """Goodput of each step in per cent of capacity; the worst p99 of a step, in terms of the first's."""
    limit = f"{outcome.limit:>5}" if outcome.limit else f"{'':>5}"
    goodput = "".join(f"{100 * part:>6.0f}%" for part in outcome.goodput[:-2])
    worst = max(outcome.p99[1:]) / outcome.p99[0]
    return f"{outcome.variant:12}{limit}{goodput}{worst:>8.1f}x{outcome.recovery:>8.2f} s"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description="Goodput under overload.")
    parser.add_argument("--only", choices=VARIANTS, action="append", help="only this variant")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="of each step (default: 5)")
    parser.add_argument("--work", type=float, default=0.2, metavar="S", help="what a request takes (default: 0.2)")
    parser.add_argument("--at-once", type=int, default=10, metavar="N", help="the server's workers (default: 10)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="the fixed one (default: the best is found)")
    parser.add_argument("--quick", action="store_true", help="short steps: shows that it works, measures nothing")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each variant")
    for internal in ("--serve", "--generate"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.at_once < 1 or chosen.limit < 0 or not chosen.work > 0 or not chosen.seconds > 0:
        parser.error("--at-once must be 1 or more, --limit 0 or more, --work and --seconds more than 0")
    return chosen


def main() -> int:
    """Measure, and print as each variant is done."""
    chosen = arguments()
    if chosen.serve:
        serve(chosen.serve, chosen.limit, chosen.work, chosen.at_once)
        return 0
    if chosen.generate:
        generate(chosen.port, json.loads(chosen.generate), chosen.seconds, PATIENCE * chosen.work)
        return 0
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        print('this benchmark needs uvicorn: pip install "penstock[serve]"', file=sys.stderr)
        return 2
    if chosen.quick:
        chosen.seconds, chosen.work = 0.1, 0.02
    variants = chosen.only or VARIANTS
    limit = chosen.limit
    if not limit and {"fixed", "uvicorn"} & set(variants):
        limit = best_fixed(chosen)
    if not chosen.json:
        print(heading())
    for variant in variants:
        outcome = run(variant, limit, chosen, STEPS)
        print(json.dumps(asdict(outcome)) if chosen.json else row(outcome), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
