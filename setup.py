"""Builds the kernel's extensions; everything else about the package stands in pyproject.toml.

The environment variable PENSTOCK_COMPILE says what is wanted of the build:
  auto      the default: compile the kernel, and where that fails build the pure form, with a notice
  require   fail where the kernel cannot be compiled
  skip      the pure form
The pure form is built as if there were no extensions at all, so that its wheel carries no platform in its tag.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from textwrap import shorten

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

WANTED = os.environ.get("PENSTOCK_COMPILE", "auto")
SOURCE = Path("src")
KERNEL = SOURCE / "penstock" / "_kernel"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "annotation_typing": False,
    "binding": False,  # Methods are method descriptors, which the interpreter calls without making bound methods.
    "freethreading_compatible": True,
}


class KernelNotCompiledError(Exception):
    """Asks for a build of the pure form from the start."""


class BuildKernel(build_ext):
    """Turn the kernel's Python into C, and compile it."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            if WANTED == "require":
                raise
            reason = shorten(f"{type(error).__name__}: {error}", 100)
            print(f"penstock: the kernel could not be compiled and will be interpreted ({reason})", file=sys.stderr)
            if not self.editable_mode:
                raise KernelNotCompiledError from error

    def build_extensions(self) -> None:
        from Cython.Build import cythonize  # Here, because the pure form builds without Cython.

        optimise = ["-O3"] if self.compiler.compiler_type in ("unix", "mingw32") else []
        made = Path("build", "cython")
        compiled = cythonize(
            self.extensions,
            build_dir=str(made),
            force=any(c.stat().st_mtime < Path("setup.py").stat().st_mtime for c in made.rglob("*.c")),
            include_path=[str(SOURCE)],
            compiler_directives=DIRECTIVES,
            quiet=True,
        )
        for extension, from_c in zip(self.extensions, compiled, strict=True):
            extension.sources = from_c.sources
            extension.extra_compile_args = optimise
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()


class BuildModules(build_py):
    """Copy the modules, and drop those that an earlier build left in the build directory and that are gone."""

    def run(self) -> None:
        super().run()
        for built in Path(self.build_lib).rglob("*"):
            module = built.relative_to(self.build_lib).parent / built.name.partition(".")[0]
            if built.suffix in (".py", ".so", ".pyd") and not (SOURCE / module).with_suffix(".py").exists():
                built.unlink()


def kernel_extensions() -> list[Extension]:
    """One extension for each kernel module that has its C types beside it."""
    headers = sorted(str(path) for pattern in ("*.h", "*.pxd") for path in KERNEL.glob(pattern))
    depends = ["setup.py", *headers]
    return [
        Extension(f"penstock._kernel.{path.stem}", [str(path)], include_dirs=[str(KERNEL)], depends=depends)
        for path in sorted(KERNEL.glob("*.py"))
        if path.with_suffix(".pxd").exists()
    ]


def build(extensions: list[Extension]) -> None:
    """Run what was asked of setuptools."""
    setup(ext_modules=extensions, cmdclass={"build_ext": BuildKernel, "build_py": BuildModules})


if WANTED not in ("auto", "require", "skip"):
    sys.exit(f"PENSTOCK_COMPILE is {WANTED!r}; it must be 'auto', 'require' or 'skip'")
try:
    build([] if WANTED == "skip" else kernel_extensions())
except KernelNotCompiledError:
    build([])
