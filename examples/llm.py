"""A client of a service that allows only so many requests in a second, answers 429 beyond that, and fails now and then.

    pip install penstock tenacity
    python examples/llm.py

It starts a small service of that kind to talk to. Requests are paced, those that are tries again as well, or they would
make a service that is busy busier; a few are under way at once, and what takes too long is given up. What is refused or
fails is tried again by tenacity, which waits by the library's `sleep`: so the context ends that as well, and
`Cancelled`, which is no `Exception`, is not taken for a failure to be tried again.
"""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from penstock import DeadlineExceeded, RecvChannel, Stream, call, fail_after, sleep, tick

PROMPTS = 60
A_SECOND = 100
AT_ONCE = 8
TRIES = 8
PATIENCE = 0.5


class Model(BaseHTTPRequestHandler):
    """Answers in capitals, unless it is asked too often, is out of order, or falls asleep."""

    allowed = 1.2 * A_SECOND / 10
    times: list[float] = []  # noqa: RUF012  one service, one list
    lock = threading.Lock()
    chance = random.Random(1)

    def do_POST(self) -> None:
        prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        with self.lock:
            now = time.monotonic()
            self.times[:] = [at for at in self.times if now - at < 1 / 10]
            self.times.append(now)
            status = 429 if len(self.times) > self.allowed else self.chance.choices([200, 500], [9, 1])[0]
            asleep = self.chance.random() < 1 / 50
        if asleep:
            time.sleep(2 * PATIENCE)
        body = json.dumps({"answer": prompt.upper()}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Quietly."""


def request(url: str, prompt: str) -> str:
    """One try. It knows nothing of contexts."""
    body = json.dumps({"prompt": prompt}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body)) as response:
        return str(json.load(response)["answer"])


@retry(
    retry=retry_if_exception_type((urllib.error.HTTPError, DeadlineExceeded)),
    stop=stop_after_attempt(TRIES),
    wait=wait_random_exponential(multiplier=0.02, max=1),
    sleep=sleep,
    reraise=True,
)
def ask(url: str, prompt: str, pace: RecvChannel[float]) -> str:
    """The answer, after as many tries as it takes, but not more than some. Each try waits for its turn at the pace."""
    pace.recv()
    with fail_after(PATIENCE):
        return call(request, url, prompt)


def main() -> None:
    """Ask them all."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{service.server_port}/"
        prompts = (f"prompt {number}" for number in range(PROMPTS))
        pace = tick(1 / A_SECOND)
        answers = Stream(prompts).map(lambda prompt: ask(url, prompt, pace), limit=AT_ONCE).collect()
        service.shutdown()
    assert answers == [f"PROMPT {number}" for number in range(PROMPTS)]
    print(f"{len(answers)} answers, in order")


if __name__ == "__main__":
    main()
