"""The forms that a report can have."""

from __future__ import annotations

from penstock.deadlock.reporting import report

FORMS = ("text", "json", "mermaid", "svg")


def in_form(form: str) -> str:
    """A report of this process, in one of the forms; in the first, if there is no such form."""
    made = report()
    if form == "json":
        return made.to_json()
    if form == "mermaid":
        return made.to_mermaid()
    if form == "svg":
        return made.to_svg()
    return str(made)
