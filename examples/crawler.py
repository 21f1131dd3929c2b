"""A polite crawler: every page of a site once, a few at a time, not too many in a second, each with a time limit.

    python examples/crawler.py

It starts a small site of its own to crawl. What it finds on a page is what it crawls next: the results feed the source.
"""

from __future__ import annotations

import re
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

from penstock import Channel, DeadlineExceeded, Stream, call, fail_after

PAGES = 40
AT_ONCE = 4
A_SECOND = 200
PATIENCE = 5.0


class Site(BaseHTTPRequestHandler):
    """Pages that lead to each other, in circles too, and some that are broken."""

    def do_GET(self) -> None:
        number = int(self.path.strip("/") or 0)
        links = [f'<a href="/{next_one}">' for next_one in (2 * number + 1, 2 * number + 2, 0) if next_one < PAGES]
        body = "".join(links).encode()
        self.send_response(500 if number == PAGES - 1 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Quietly."""


def fetch(url: str) -> tuple[str, list[str], str]:
    """The page's address, its links, and what was wrong with it."""
    try:
        with fail_after(PATIENCE):
            text = call(read, url)
    except (OSError, DeadlineExceeded) as error:
        return url, [], str(error)
    return url, [urljoin(url, link) for link in re.findall(r'href="([^"]+)"', text)], ""


def read(url: str) -> str:
    """A call that knows nothing of contexts."""
    with urllib.request.urlopen(url) as response:
        return str(response.read(), "utf-8")


def crawl(start: str) -> dict[str, str]:
    """Every page that can be reached from `start`, with what was wrong with it."""
    frontier: Channel[str] = Channel(10_000)
    seen = {start}
    frontier.send(start)
    pages: dict[str, str] = {}
    for url, links, problem in Stream(frontier).throttle(A_SECOND).map(fetch, limit=AT_ONCE, ordered=False):
        pages[url] = problem
        for link in links:
            if link not in seen:
                seen.add(link)
                frontier.send(link)
        if len(pages) == len(seen):
            frontier.close()
    return pages


def main() -> None:
    """Crawl."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        pages = crawl(f"http://127.0.0.1:{site.server_port}/0")
        site.shutdown()
    broken = [problem for problem in pages.values() if problem]
    print(f"{len(pages)} pages, {len(broken)} broken: {', '.join(broken)}")


if __name__ == "__main__":
    main()
