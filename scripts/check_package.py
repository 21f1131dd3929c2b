"""Builds the source distribution, and from it a wheel in each of its forms; checks what they hold and how they import.

Run by `make package`; needs `build`, and a C compiler.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The form, the environment it is built in, and whether the kernel is compiled.
FORMS = [
    ("the compiled form", {"PENSTOCK_COMPILE": "require"}, True),
    ("the pure form", {"PENSTOCK_COMPILE": "skip"}, False),
    ("a compiler that fails", {"PENSTOCK_COMPILE": "auto", "CC": "false"}, False),
]


def run(*command: str | Path, **environment: str) -> str:
    """What the command prints; its errors stop this program."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PYTHON"))}
    done = subprocess.run(
        command, env=inherited | environment, cwd=tempfile.gettempdir(), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}failed")
    return done.stdout.strip()


def expect(*, holds: bool, otherwise: str) -> None:
    """Stop unless it holds."""
    if not holds:
        sys.exit(otherwise)


def only(folder: Path, pattern: str) -> Path:
    """The one file there."""
    (path,) = folder.glob(pattern)
    return path


def check_contents(wheel: Path, *, compiled: bool) -> None:
    """The kernel's Python is always there, extensions only in the compiled form, and nothing they were made from."""
    suffixes = {Path(name).suffix for name in zipfile.ZipFile(wheel).namelist() if name.startswith("penstock/")}
    binary = suffixes & {".so", ".pyd"}
    expect(holds=bool(binary) is compiled, otherwise=f"{wheel.name} holds {binary or 'no extension'}")
    expect(holds=suffixes - binary <= {".py", ".typed"}, otherwise=f"{wheel.name} holds {suffixes}")
    expect(holds=wheel.name.endswith("-py3-none-any.whl") is not compiled, otherwise=f"{wheel.name} has a wrong tag")


def check_installed(wheel: Path, *, compiled: bool, folder: Path) -> None:
    """Installed alone in a new environment, it imports, and says truly whether it is compiled."""
    venv.create(folder, clear=True, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-index", wheel)
    answer = run(python, "-c", "import penstock; print(penstock.COMPILED)")
    expect(holds=answer == str(compiled), otherwise=f"{wheel.name}: COMPILED is {answer}")


def main() -> None:
    """Build and check every form."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, ROOT)
        sdist = only(folder, "*.tar.gz")
        for number, (form, environment, compiled) in enumerate(FORMS):
            built = folder / f"wheel{number}"
            pip_wheel = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps")
            run(*pip_wheel, "--no-cache-dir", "--wheel-dir", built, sdist, **environment)
            wheel = only(built, "*.whl")
            check_contents(wheel, compiled=compiled)
            check_installed(wheel, compiled=compiled, folder=folder / "environment")
            print(f"{form}: {wheel.name}")


if __name__ == "__main__":
    main()
