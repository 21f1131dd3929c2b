"""A schedule as a value: what was decided otherwise than by default, at which decision.

Decisions are numbered as they come. By default the task at work goes on, then the one that has been able to run longest
has its turn; of other things the first is taken. What makes a schedule differ from that is all that has to be kept: it
is short, can be read, and stays meaningful when parts of it are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CLOCK = -1
"""As a choice: the timer that is due next fires."""

_HEADER = "penstock-schedule-1"


@dataclass(frozen=True)
class Schedule:
    """Who ran when. `str()` gives a line that `Schedule.parse`, and `replay`, take back."""

    choices: dict[int, int] = field(default_factory=dict)
    """What was chosen at a decision: a task's number, CLOCK, or another number below those offered."""
    lines: bool = False
    """Can tasks be switched between lines?"""
    max_steps: int = 20_000
    """How many steps there may be."""

    def __str__(self) -> str:
        choices = " ".join(f"{number}:{choice}" for number, choice in sorted(self.choices.items()))
        return f"{_HEADER} lines={int(self.lines)} max_steps={self.max_steps} {choices}".rstrip()

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule that `text` stands for. ValueError if it stands for none."""
        words = text.split()
        try:
            header, lines, steps, *choices = words
            if header != _HEADER or not lines.startswith("lines=") or not steps.startswith("max_steps="):
                raise ValueError  # noqa: TRY301  told below
            pairs = (choice.split(":") for choice in choices)
            return cls(
                {int(number): int(choice) for number, choice in pairs},
                bool(int(lines.removeprefix("lines="))),
                int(steps.removeprefix("max_steps=")),
            )
        except ValueError:
            raise ValueError(f"not a schedule: {text!r}; it is what str(failure.schedule) gives") from None

    def __hash__(self) -> int:
        return hash(str(self))
