"""Loads the kernel's modules from their Python sources, although compiled ones lie beside them."""

from __future__ import annotations

import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class SourceFinder:
    """Finds the modules of one package, as sources only."""

    def __init__(self, package: str, path: str) -> None:
        self._package = package
        self._finder = FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks."""
        return self._finder.find_spec(name, target) if name.rpartition(".")[0] == self._package else None


def prefer(package: str, paths: list[str]) -> None:
    """From now on import the modules of `package` from its sources."""
    for path in paths:
        sys.meta_path.insert(0, SourceFinder(package, path))
