"""What the installed package brings with it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import penstock

PACKAGE = Path(penstock.__file__).parent

installed = pytest.mark.skipif(
    PACKAGE.parent.name == "src", reason="imported from the source tree; `make test` installs the package"
)


def run_python(program: str, **environment: str) -> str:
    """What `program` prints in a new interpreter that decides for itself about the GIL and the kernel."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in {"PENSTOCK_INTERPRETED", "PYTHON_GIL"}
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    )
    return done.stdout.strip()


def test_compiled_is_a_bool() -> None:
    assert type(penstock.COMPILED) is bool


def test_the_interpreted_kernel_can_be_asked_for() -> None:
    assert run_python("import penstock; print(penstock.COMPILED)", PENSTOCK_INTERPRETED="1") == "False"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this interpreter always has the GIL")
def test_importing_leaves_the_gil_off() -> None:
    assert run_python("import sys, penstock; print(sys._is_gil_enabled())") == "False"


def test_every_public_name_is_there() -> None:
    assert [name for name in penstock.__all__ if not hasattr(penstock, name)] == []
    assert list(penstock.__all__) == sorted(set(penstock.__all__))


@installed
def test_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@installed
def test_metadata() -> None:
    about = metadata.metadata("penstock")
    assert about["Name"] == "penstock"
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.11"
    assert metadata.version("penstock") == penstock.__version__


@installed
def test_the_core_needs_nothing_at_run_time() -> None:
    assert [needed for needed in metadata.requires("penstock") or [] if "extra ==" not in needed] == []


@installed
def test_the_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="penstock")
    assert command.value == "penstock.cli:main"


@installed
def test_files() -> None:
    """The kernel's Python is there beside its extensions; what it was compiled from is not."""
    names = {path.name for path in (PACKAGE / "_kernel").iterdir() if path.is_file()}
    assert {f"{name.partition('.')[0]}.py" for name in names} <= names
    assert {Path(name).suffix for name in names} <= {".py", sysconfig.get_config_var("EXT_SUFFIX")[-3:], ".pyd"}
    assert any(Path(name).suffix in {".so", ".pyd"} for name in names) or not penstock.COMPILED
