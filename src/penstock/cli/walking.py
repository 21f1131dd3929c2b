"""Finding the regular files under some paths, without recursion and in batches."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from penstock.context import current

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


class _Directory(NamedTuple):
    path: bytes
    lineage: frozenset[tuple[int, int]]
    """Device and inode of it and of those it was reached through; kept when links are followed, which may lead back."""


class Walk:
    """The regular files under `paths`. Symbolic links inside directories are followed on demand only.

    What is named itself is taken whatever it is. `failed` is told of what could not be read.
    """

    def __init__(self, paths: Iterable[bytes], failed: Callable[[bytes, OSError], None], *, follow: bool) -> None:
        self._paths = paths
        self._failed = failed
        self._follow = follow
        self._pending: list[_Directory] = []

    def __iter__(self) -> Iterator[bytes]:
        context = current()
        for path in self._paths:
            try:
                status = os.stat(path)  # noqa: PTH116  pathlib takes 4 ms to import
            except OSError as error:
                self._failed(path, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                self._pending.append(_Directory(path, frozenset([(status.st_dev, status.st_ino)])))
            else:
                yield path
        while self._pending:
            context.check()
            directory = self._pending.pop()
            try:
                with os.scandir(directory.path) as entries:
                    for entry in entries:
                        if self._is_file(entry, directory):
                            yield entry.path
            except OSError as error:
                self._failed(directory.path, error)

    def _is_file(self, entry: os.DirEntry[bytes], directory: _Directory) -> bool:
        """Whether an entry is one of the files; directories are put aside for later."""
        try:
            if entry.is_dir(follow_symlinks=self._follow):
                self._put_aside(entry, directory)
                return False
            if entry.is_file(follow_symlinks=self._follow):
                return True
            if self._follow and entry.is_symlink():
                entry.stat()  # A dangling link: tell why.
        except OSError as error:
            self._failed(entry.path, error)
        return False

    def _put_aside(self, entry: os.DirEntry[bytes], directory: _Directory) -> None:
        lineage = directory.lineage
        if self._follow:
            status = entry.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in lineage:
                return  # A link back to a directory that leads here.
            lineage |= {identity}
        self._pending.append(_Directory(entry.path, lineage))
