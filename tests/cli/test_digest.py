"""`penstock digest`, as the shell sees it; sha256sum is the judge where the machine has it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="the command line is an extra")

from penstock.cli.lines import format_line, parse_line

SHA256SUM = shutil.which("sha256sum")
LIMIT = 50

posix = pytest.mark.skipif(os.name != "posix", reason="names of bytes, links and signals as POSIX has them")
ODD_NAMES = [
    b"plain",
    b"two  words",
    b"new\nline",
    b"back\\slash",
    b"carriage\rreturn",
    b"\xff\xfe",
    b"-dash",
    b" space",
]


def digest(*args: object, cwd: Path | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    arguments = [arg if isinstance(arg, bytes) else str(arg) for arg in args]
    command = [sys.executable, "-m", "penstock", "digest", *arguments]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, timeout=LIMIT, check=False)


def line(path: Path | bytes, content: bytes, algorithm: str = "sha256") -> bytes:
    return format_line(hashlib.new(algorithm, content).hexdigest(), os.fsencode(path))


def write_odd_names(directory: Path) -> None:
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(directory), name), "wb") as file:  # noqa: PTH118, PTH123 - bytes
            file.write(name)


def test_sorted_by_path_in_sha256sums_format(tmp_path: Path) -> None:
    files = {tmp_path / name: name.encode() * size for size, name in enumerate(["b", "a/z", "a/y/x", "c"])}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    done = digest(tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"".join(line(path, files[path]) for path in sorted(files))


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, (1 << 20) + (1 << 16), 3 << 20])
def test_sizes_around_the_buffers(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    assert digest(file).stdout == line(file, file.read_bytes())


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha512", "blake2b"])
def test_algorithms(tmp_path: Path, algorithm: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    done = digest("--algorithm", algorithm, "--jobs", 1, file)
    assert done.stdout == line(file, b"content", algorithm)
    assert digest("-a", algorithm, "--check", "-", stdin=done.stdout).stdout == os.fsencode(file) + b": OK\n"


@posix
def test_odd_names_survive(tmp_path: Path) -> None:
    """Newlines, backslashes, undecodable bytes: there and back, in lines and in JSON."""
    write_odd_names(tmp_path)
    plain = digest(".", cwd=tmp_path)
    assert plain.stdout == b"".join(line(b"./" + name, name) for name in sorted(ODD_NAMES))
    parsed = [parse_line(each, 64) for each in plain.stdout.splitlines(keepends=False) if each]
    assert [found[1] for found in parsed if found] == [b"./" + name for name in sorted(ODD_NAMES)]
    records = [json.loads(each) for each in digest("--json", ".", cwd=tmp_path).stdout.splitlines()]
    assert [os.fsencode(record["path"]) for record in records] == [b"./" + name for name in sorted(ODD_NAMES)]


@posix
@pytest.mark.skipif(SHA256SUM is None, reason="no sha256sum here")
def test_sha256sum_accepts_what_is_printed_and_agrees_on_verdicts(tmp_path: Path) -> None:
    write_odd_names(tmp_path)
    listing = tmp_path / "listing"
    names = [b"./" + name for name in ODD_NAMES]
    listing.write_bytes(digest(*names, cwd=tmp_path).stdout)
    assert (
        subprocess.run(["sha256sum", "-c", "listing"], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    )
    (tmp_path / "plain").write_bytes(b"changed")
    (tmp_path / "new\nline").unlink()
    with listing.open("ab") as file:
        file.write(b"garbage\n")
    theirs = subprocess.run(["sha256sum", "-c", "listing"], cwd=tmp_path, capture_output=True, check=False)
    ours = digest("--check", "listing", cwd=tmp_path)
    assert ours.returncode == theirs.returncode == 1
    # Which names are escaped in a verdict differs between the versions of sha256sum: only newlines in all of them.
    assert [verdict.rpartition(b": ")[2] for verdict in ours.stdout.splitlines()] == [
        verdict.rpartition(b": ")[2] for verdict in theirs.stdout.splitlines()
    ]
    for warning in (b"1 line is improperly", b"1 listed file could not", b"1 computed checksum did NOT"):
        assert warning in ours.stderr


@posix
def test_links_are_followed_on_demand_only_and_never_in_circles(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").write_bytes(b"x")
    (tmp_path / "inside" / "up").symlink_to("..")
    (tmp_path / "link").symlink_to("inside/file")
    os.mkfifo(tmp_path / "fifo")  # no regular file: not waited for
    assert digest(".", cwd=tmp_path).stdout == line(b"./inside/file", b"x")
    followed = digest("--follow", ".", cwd=tmp_path)
    assert followed.stdout == line(b"./inside/file", b"x") + line(b"./link", b"x")
    assert digest("link", cwd=tmp_path).stdout == line(b"link", b"x")  # What is named is taken.
    (tmp_path / "dangling").symlink_to("nowhere")
    dangling = digest("--follow", ".", cwd=tmp_path)
    assert dangling.stdout == followed.stdout
    assert dangling.returncode == 1
    assert dangling.stderr.count(b"\n") == 1


def test_what_cannot_be_read_is_reported_and_the_rest_digested(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x")
    done = digest("gone", "there", "lost\nfound", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == line(b"there", b"x")
    assert [error.split(b": ")[:2] for error in done.stderr.splitlines()] == [
        [b"penstock", b"gone"],
        [b"penstock", b"\\lost\\nfound"],
    ]


def test_fail_fast_prints_the_error_and_no_digests(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x")
    done = digest("--fail-fast", "gone", "there", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"penstock: gone: ")


def test_files_that_vanish_under_way(tmp_path: Path) -> None:
    """Each is digested, or reported, or was gone before it was found; never a traceback."""
    for directory in range(20):
        (tmp_path / str(directory)).mkdir()
        for number in range(100):
            (tmp_path / str(directory) / str(number)).write_bytes(b"x")
    removal = threading.Thread(target=shutil.rmtree, args=(tmp_path,))
    command = [sys.executable, "-m", "penstock", "digest", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.05)
    removal.start()
    out, err = process.communicate(timeout=LIMIT)
    removal.join()
    assert process.returncode == (1 if err else 0)
    for each in out.splitlines():
        assert parse_line(each, 64), each
    for each in err.splitlines():
        assert each.startswith(b"penstock: "), each


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], b"name either a PATH or --check FILE"),
        (["--check", "listing", "."], b"name either a PATH or --check FILE"),
        (["--check", "listing", "--json"], b"--json is for digests"),
        (["--jobs", "0", "."], b"0 is not in the range"),
        (["--jobs", "1025", "."], b"1025 is not in the range 1<=x<=1024"),
        (["--jobs", "999999999", "."], b"999999999 is not in the range"),
        (["--jobs", "many", "."], b"'many' is not a valid integer"),
        (["--algorithm", "crc", "."], b"'crc' is not one of"),
        (["--check", "nowhere"], b"Could not open file"),
        (["--check", "empty"], b"no properly formatted checksum lines found"),
        (["--nonsense"], b"No such option"),
    ],
)
def test_bad_input(tmp_path: Path, args: list[str], told: bytes) -> None:
    (tmp_path / "empty").touch()
    done = digest(*args, cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert done.stdout == b""
    assert told in done.stderr
    assert b"Traceback" not in done.stderr


@posix
def test_a_directory_that_is_a_listing(tmp_path: Path) -> None:
    done = digest("--check", tmp_path)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr


def start(*args: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "penstock", "digest", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def until_it_has_open(process: subprocess.Popen[bytes], path: Path) -> None:
    """Wait until a process has a file open, where that can be seen; a while elsewhere."""
    files = Path(f"/proc/{process.pid}/fd")
    deadline = time.monotonic() + (LIMIT if files.exists() else 3)
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if any(os.path.realpath(file) == str(path) for file in files.iterdir()):
                return
        time.sleep(0.01)
    assert process.poll() is None


@posix
def test_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    """Exit code 130, no traceback, no digests, in the middle of a file that would take hours."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    process = start(sparse)
    until_it_has_open(process, sparse)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert err.strip() == b""


def until_somebody_reads(fifo: Path) -> int:
    """Wait until a fifo is opened for reading; returns its writing end."""
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@posix
@pytest.mark.parametrize("checking", [False, True])
def test_ctrl_c_does_not_wait_for_a_read_that_hangs(tmp_path: Path, checking: bool) -> None:
    """Reading from a fifo that nobody writes to takes for ever; the first Ctrl-C ends it, in --check too."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "listing").write_bytes(format_line("0" * 64, os.fsencode(fifo)))
    process = start("--check", tmp_path / "listing") if checking else start(fifo)
    writer = until_somebody_reads(fifo)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    os.close(writer)
    assert process.returncode == 130
    assert (out, err.strip()) == (b"", b"")


@posix
def test_fail_fast_does_not_wait_for_a_read_that_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    listing = tmp_path / "listing"
    lines = [format_line("0" * 64, os.fsencode(tmp_path / name)) for name in ("fifo", *map(str, range(200)))]
    listing.write_bytes(b"".join(lines))
    done = digest("--fail-fast", "--jobs", 2, "--check", listing)
    assert done.returncode == 1
    assert b"No such file" in done.stderr


@posix
def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    """A full device, and a standard output or error that is closed, are told without a traceback."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "penstock", "digest", str(tmp_path), str(tmp_path / "missing")]
    told = b"penstock: %s: No such file or directory\n" % os.fsencode(tmp_path / "missing")
    full = subprocess.run(["sh", "-c", 'exec "$@" >/dev/full', "sh", *command], capture_output=True, check=False)
    assert (full.returncode, full.stderr) == (1, told + b"Error: write error: No space left on device\n")
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (1, told + b"Error: write error: Bad file descriptor\n")
    silent = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], capture_output=True, check=False)
    assert silent.returncode == 1
    assert silent.stdout.endswith(os.fsencode(tmp_path / "file") + b"\n")


def test_a_listing_with_carriage_returns(tmp_path: Path) -> None:
    """A listing that came from Windows is read as sha256sum reads it."""
    (tmp_path / "file").write_bytes(b"x")
    listing = tmp_path / "listing"
    listing.write_bytes(digest(tmp_path / "file").stdout.replace(b"\n", b"\r\n"))
    done = digest("--check", listing)
    assert (done.returncode, done.stdout) == (0, os.fsencode(tmp_path / "file") + b": OK\n")


@posix
def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    """`penstock digest | head`: no traceback."""
    for number in range(2000):
        (tmp_path / f"{number:0200}").touch()
    process = start(tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(LIMIT) == -signal.SIGPIPE


@posix
def test_progress_on_a_terminal_and_only_there(tmp_path: Path) -> None:
    import pty

    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(300 << 20)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "penstock", "digest", str(sparse)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux: the other side has been closed.
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert out.endswith(format_line("", os.fsencode(sparse)))
    assert b"0/1" in shown
    assert b"MB/s" in shown or b"GB/s" in shown
