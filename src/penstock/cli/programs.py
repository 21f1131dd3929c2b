"""Finding a program, as `python SCRIPT`, `python DIRECTORY` and `python -m MODULE` do."""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import io
import os
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType


class Found(NamedTuple):
    """A program, ready to be run."""

    code: CodeType
    module: ModuleType
    """What it has as `__main__`."""
    argv0: str


class NoProgramError(click.ClickException):
    """There is nothing to run."""

    exit_code = 2


def set_path(first: str) -> None:
    """Let the program find its modules in that place first, instead of where the command line's are."""
    if not sys.flags.safe_path:
        sys.path[0] = first


def find_script(path: str) -> Found:
    """The program in a file, or in a directory or an archive with a `__main__`."""
    if not Path(path).exists():
        raise NoProgramError(f"cannot run {path!r}: there is no such file")
    absolute = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118  as Python has it, with the dots in it
    if pkgutil.get_importer(path) is not None:
        set_path(absolute)
        return _found("__main__", path, path)
    set_path(os.path.dirname(os.path.realpath(path)))  # noqa: PTH120  as Python does
    try:
        with io.open_code(absolute) as file:
            code = pkgutil.read_code(file)
            if code is None:
                file.seek(0)
                code = compile(file.read(), absolute, "exec", dont_inherit=True)
    except OSError as error:
        raise NoProgramError(f"cannot run {path!r}: {error.strerror or error}") from None
    module = _main_module()
    module.__file__ = absolute
    module.__loader__ = importlib.machinery.SourceFileLoader("__main__", absolute)
    module.__package__ = None
    return Found(code, module, path)


def find_module(name: str) -> Found:
    """The program that is a module, or a package with a `__main__`."""
    set_path(os.getcwd())  # noqa: PTH109  as Python does
    return _found(name, name, None)


def _found(name: str, called: str, argv0: str | None) -> Found:
    spec = _spec(name, called)
    if spec is not None and spec.submodule_search_locations is not None:
        name += ".__main__"
        spec = _spec(name, called)
        if spec is None:
            raise NoProgramError(f"cannot run {called!r}: it is a package without a __main__")
    if spec is None or spec.loader is None:
        what = "it has no __main__" if name == "__main__" else "there is no such module"
        raise NoProgramError(f"cannot run {called!r}: {what}")
    code = spec.loader.get_code(name)  # type: ignore[attr-defined]
    if code is None:
        raise NoProgramError(f"cannot run {called!r}: its code is not Python's")
    module = _main_module()
    module.__file__ = spec.origin
    module.__loader__ = spec.loader
    module.__package__ = spec.parent
    module.__spec__ = spec
    return Found(code, module, argv0 if argv0 is not None else spec.origin or name)


def _spec(name: str, called: str) -> ModuleSpec | None:
    """What the import system knows of a module. Its parents are imported."""
    own_main = sys.modules.pop("__main__")  # It would be found instead of what is looked for.
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise NoProgramError(f"cannot run {called!r}: there is no module {error.name!r}") from None
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise NoProgramError(f"cannot run {called!r}: {error}") from None
    finally:
        sys.modules["__main__"] = own_main


def _main_module() -> ModuleType:
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    module.__dict__["__cached__"] = None
    return module
