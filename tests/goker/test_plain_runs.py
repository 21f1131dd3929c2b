"""Real bugs, run plainly: `leaks()` reports every task that waits for ever, and none of the fixed forms.

The programs are `plain.py`, once as it is and once with threads that are held up by chance.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from kernels.registry import KERNELS
from programs import environment

HERE = Path(__file__).parent
for path in sorted((HERE / "kernels").glob("*.py")):
    import_module(f"kernels.{path.stem}")

LIMIT = 100
NOTHING = {"happened": 0, "reported": 0, "missed": [], "alarms": []}
FORMS: dict[str, list[str]] = {"bug": [], "fixed": ["--fixed"]}
SPEEDS: list[list[str]] = [[], ["--noise"]]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what is stuck is told by Linux"),
    pytest.mark.timeout(LIMIT + 20),  # The first test starts the programs.
]
every_kernel = pytest.mark.parametrize("name", sorted(KERNELS))


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, list[dict[str, Any]]]:
    """What has become of both forms of the selected kernels; None selected by name are all."""
    selected = [item for item in request.session.items if item.path == request.path]
    names = sorted({item.callspec.params["name"] for item in selected if hasattr(item, "callspec")})
    if len(selected) != sum(hasattr(item, "callspec") for item in selected):
        names = sorted(KERNELS)
    runs = str(2 * request.config.getoption("--storm-scale"))
    started = {
        form: [
            subprocess.Popen(
                [sys.executable, str(HERE / "plain.py"), "--runs", runs, *options, *speed, *names],
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            for speed in SPEEDS
        ]
        for form, options in FORMS.items()
    }
    try:
        return {
            form: [json.loads(program.communicate(timeout=LIMIT)[0]) for program in programs]
            for form, programs in started.items()
        }
    finally:
        for programs in started.values():
            for program in programs:
                program.kill()
                program.communicate()


@every_kernel
def test_what_is_stuck_is_reported(name: str, outcomes: dict[str, list[dict[str, Any]]]) -> None:
    """All of it, and nothing else: section 8 of the contract."""
    for outcome in outcomes["bug"]:
        told = outcome["kernels"][name]
        assert (told["missed"], told["alarms"]) == ([], [])
        assert told["reported"] == told["happened"]


@every_kernel
def test_nothing_is_reported_of_the_fixed_form(name: str, outcomes: dict[str, list[dict[str, Any]]]) -> None:
    """All its tasks end."""
    for outcome in outcomes["fixed"]:
        assert outcome["kernels"][name] == NOTHING


def test_the_bugs_happen(outcomes: dict[str, list[dict[str, Any]]]) -> None:
    """Many of them need no luck; so what is said above is not said of nothing."""
    for outcome in outcomes["bug"]:
        happened = [name for name, told in outcome["kernels"].items() if told["happened"]]
        assert len(happened) >= 25
        assert all(KERNELS[name].blocks for name in happened)


def test_all_is_some_kernels(outcomes: dict[str, list[dict[str, Any]]]) -> None:
    """Nothing is stuck or reported that is not known whose it is."""
    assert [outcome["kernels"][""] for form in FORMS for outcome in outcomes[form]] == [NOTHING] * 2 * len(SPEEDS)


def test_the_fixed_forms_do_not_fail(outcomes: dict[str, list[dict[str, Any]]]) -> None:
    """None of their tasks raises anything."""
    assert [outcome["errors"] for outcome in outcomes["fixed"] if outcome["errors"]] == []
