"""The commands and their options."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from penstock.cli import checking, lines, walking
from penstock.cli.digesting import Digesting
from penstock.cli.progress import shown

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_JOBS = 1024
"""Each is a thread, with a buffer of a megabyte; no disk gains by more."""
ALGORITHMS = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", prog_name="penstock")
def penstock() -> None:
    """Programs built on Penstock's channels, contexts and groups."""


@penstock.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=bytes), metavar="PATH...")
@click.option(
    "-a",
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default="sha256",
    show_default=True,
    metavar="NAME",
    help=f"The digest: {', '.join(ALGORITHMS)}.",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, MOST_JOBS), help="How many files are read at once; default: the cores."
)
@click.option("-c", "--check", metavar="FILE", help="Verify the digests listed in FILE ('-': standard input).")
@click.option("--follow", is_flag=True, help="Follow symbolic links inside directories.")
@click.option("--fail-fast", is_flag=True, help="Stop everything at the first file that cannot be read.")
@click.option("--json", "as_json", is_flag=True, help='One JSON object a line: {"path": ..., "digest": ...}.')
def digest(
    paths: tuple[bytes, ...],
    algorithm: str,
    jobs: int | None,
    check: str | None,
    follow: bool,
    fail_fast: bool,
    as_json: bool,
) -> int:
    """Digest every regular file under each PATH, sorted by path, as sha256sum prints it.

    The exit code is 1 if a file could not be read, or did not match.
    """
    if (check is None) == (not paths):
        raise click.UsageError("name either a PATH or --check FILE")
    digesting = Digesting(algorithm, jobs or os.cpu_count() or 1, fail_fast)
    if check is not None:
        if as_json:
            raise click.UsageError("--json is for digests; --check prints verdicts")
        return checking.check(digesting, check)
    with shown(digesting):
        outcomes = digesting.run(lambda: walking.batches(walking.Walk(paths, digesting.failed, follow=follow)))
    errors = [(outcome.path, outcome.error) for outcome in outcomes if outcome.error is not None]
    for path, error in errors:
        lines.complain(path, error)
    if not (fail_fast and errors):
        write = lines.format_json if as_json else lines.format_line
        lines.write(write(outcome.digest, outcome.path) for outcome in outcomes if outcome.error is None)
    return 1 if errors else 0


@penstock.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--limit", type=click.IntRange(min=0), help="Requests in flight; 0: no limit; default: it finds itself.")
def serve(host: str, port: int, limit: int | None) -> None:
    """Start a server behind a gauge, to try a load on: '/' costs something, '/statistics' tells.

    Standard error is told where it listens. Ctrl-C ends it.
    """
    try:
        import uvicorn
    except ImportError:
        raise click.UsageError("this command needs an extra: pip install 'penstock[serve]'") from None
    from penstock.http.demo import make_app

    server = uvicorn.Server(uvicorn.Config(make_app(limit), log_level="warning", access_log=False))
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror or error}") from None
    address = f"[{host}]" if ":" in host else host
    click.echo(f"penstock: listening on http://{address}:{listening.getsockname()[1]}/ (Ctrl-C ends it)", err=True)
    with listening, suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


@penstock.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "is_module", is_flag=True, help="PROGRAM is a module, as after 'python -m'.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(program: str, arguments: tuple[str, ...], *, is_module: bool) -> Callable[[], int]:
    r"""Run a Python PROGRAM, watched for deadlocks.

    PROGRAM is what would stand after 'python': a script, a directory or archive with a __main__, or '-m MODULE'. When
    all of its tasks are asleep for ever, it ends with exit code 2 and a report. Locks that are taken in different
    orders are reported as they are seen, leaked tasks at the end. Ctrl-\ prints a report, and the program goes on.
    """
    from penstock.cli.running import Program

    return Program(program, arguments, is_module=is_module).run


@penstock.command()
@click.argument("process", type=click.IntRange(min=1), metavar="PID")
@click.option("--json", "form", flag_value="json", help="The report as JSON.")
@click.option("--mermaid", "form", flag_value="mermaid", help="Who waits for whom, as a Mermaid flowchart.")
@click.option("--svg", "form", flag_value="svg", help="Who waits for whom, as a picture.")
def dump(process: int, form: str | None) -> int:
    """Print which tasks of a running process are parked, what they wait for, and where.

    The process must be watched: started by 'penstock run', or calling penstock.deadlock.watch().
    """
    from penstock.cli.dumping import dump

    return dump(process, form or "text")
