"""Finding the regular files under some paths, without recursion and in batches."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BATCH = 64


def batches(paths: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Paths, some at a time."""
    batch: list[bytes] = []
    for path in paths:
        batch.append(path)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def files(paths: list[bytes], follow: bool, failed: Callable[[bytes, OSError], None]) -> Iterator[bytes]:
    """The regular files under `paths`. Symbolic links inside directories are followed on demand only.

    What is named itself is taken whatever it is. `failed` is told of what could not be read.
    """
    directories: list[tuple[bytes, frozenset[tuple[int, int]]]] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            failed(path, error)
            continue
        if stat.S_ISDIR(status.st_mode):
            directories.append((path, frozenset([(status.st_dev, status.st_ino)])))
        else:
            yield path
    while directories:
        directory, above = directories.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=follow):
                            inside = above
                            if follow:
                                status = entry.stat()
                                identity = (status.st_dev, status.st_ino)
                                if identity in above:
                                    continue  # A link back to a directory that leads here.
                                inside = above | {identity}
                            directories.append((entry.path, inside))
                        elif entry.is_file(follow_symlinks=follow):
                            yield entry.path
                        elif follow and entry.is_symlink():
                            os.stat(entry.path)  # A dangling link: tell why.
                    except OSError as error:
                        failed(entry.path, error)
        except OSError as error:
            failed(directory, error)
