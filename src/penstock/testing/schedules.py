"""A schedule as a value: what was decided otherwise than by default, at which decision.

Decisions are numbered as they come. By default the task at work goes on, then the one that has been able to run longest
has its turn; of other things the first is taken. What makes a schedule differ from that is all that has to be kept: it
is short, can be read, and stays meaningful when parts of it are left out.
"""

from __future__ import annotations

from typing import Self

CLOCK = -1
"""As a choice: the timer that is due next fires."""

_HEADER = "penstock-schedule-1"


class Schedule(str):  # noqa: SLOT000  what it says is kept beside the text
    """Who ran when, as one line of text: print it, write it to a file, give it to `replay`.

    ValueError if the text is not that of a schedule.
    """

    choices: dict[int, int]
    """What was chosen at a decision: a task's number, CLOCK, or another number below those offered."""
    lines: bool
    """Can tasks be switched between lines?"""
    max_steps: int
    """How many steps there may be."""

    def __new__(cls, text: str) -> Self:
        words = text.split()
        try:
            header, lines, steps, *choices = words
            if header != _HEADER or lines not in {"lines=0", "lines=1"} or not steps.startswith("max_steps="):
                raise ValueError  # noqa: TRY301  told below
            pairs = [choice.split(":") for choice in choices]
            taken = {int(number): int(choice) for number, choice in pairs}
            most = int(steps.removeprefix("max_steps="))
            if len(taken) != len(pairs) or most < 1 or min(taken, default=0) < 0:
                raise ValueError  # noqa: TRY301
        except ValueError:
            raise ValueError(f"not a schedule: {text!r}; it is what str(failure.schedule) gives") from None
        schedule = super().__new__(cls, " ".join(words))
        schedule.choices = taken
        schedule.lines = lines == "lines=1"
        schedule.max_steps = most
        return schedule

    @classmethod
    def of(cls, choices: dict[int, int], *, lines: bool = False, max_steps: int = 20_000) -> Self:
        """The schedule with these choices."""
        taken = (f"{number}:{choice}" for number, choice in sorted(choices.items()))
        return cls(" ".join((_HEADER, f"lines={int(lines)}", f"max_steps={max_steps}", *taken)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The schedule that `text` stands for."""
        return cls(text)
