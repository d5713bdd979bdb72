"""What a check found, and how it is told: readable without colours, on narrow terminals, and line by line in a pipe."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

OK, NOTE, WARNING, FAULT = "ok", "-", "warn", "FAIL"
_COLOURS: Final = {OK: "green", NOTE: "dim", WARNING: "yellow", FAULT: "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was seen, in a sentence; where it is wrong, one more on its cure."""

    grade: str
    sentence: str
    cure: str = ""


def ok(sentence: str) -> Finding:
    return Finding(OK, sentence)


def note(sentence: str) -> Finding:
    return Finding(NOTE, sentence)


def warning(sentence: str, cure: str = "") -> Finding:
    return Finding(WARNING, sentence, cure)


def fault(sentence: str, cure: str = "") -> Finding:
    return Finding(FAULT, sentence, cure)


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop; nothing where there is nothing."""
    text = text.strip()
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def print_section(out: Console, title: str, findings: Sequence[Finding], redact: Callable[[str], str]) -> None:
    """On a terminal in columns that wrap; elsewhere each finding on a line of its own, for those who search."""
    out.print(Text(title, style="bold"))
    if not out.is_terminal:
        for finding in findings:
            cure = f" Cure: {finding.cure}" if finding.cure else ""
            out.print(Text(redact(f"  {finding.grade:4}  {finding.sentence}{cure}")), soft_wrap=True)
        return
    table = Table.grid(padding=(0, 1), pad_edge=True)
    table.add_column(no_wrap=True, min_width=4)
    table.add_column(overflow="fold")
    for finding in findings:
        cell = Text(redact(finding.sentence))
        if finding.cure:
            cell.append(redact(f"\n→ {finding.cure}"), style="italic")
        table.add_row(Text(finding.grade, style=_COLOURS[finding.grade]), cell)
    out.print(table)


def print_end(out: Console, faults: int, warnings: int) -> None:
    if faults:
        out.print(Text(f"{faults} to mend before the service can run.", style="bold red"))
    else:
        noted = f", {warnings} to look at" if warnings else ""
        out.print(Text(f"All is well{noted}.", style="bold green"))
