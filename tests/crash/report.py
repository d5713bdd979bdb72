"""What became of a round of a campaign, or of all of them together."""

from collections import Counter
from dataclasses import dataclass, field

from tests.crash.judge import VIOLATIONS, Verdict


@dataclass(slots=True)
class Report:
    """What happened: faults by kind, points at which processes struck themselves, the verdict."""

    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    crashed: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        return self.verdict.clean and not (self.crashed or self.unsettled or self.leaks)

    def add(self, other: "Report") -> None:
        self.faults += other.faults
        self.points += other.points
        self.verdict.add(other.verdict)
        self.crashed += other.crashed
        self.unsettled += other.unsettled
        self.leaks += other.leaks
        self.seconds += other.seconds

    def table(self) -> str:
        """For people."""
        verdict = self.verdict
        rows = [f"  {number:6}  {kind}" for kind, number in sorted(self.faults.items())]
        rows.append(f"  {self.faults.total():6}  faults, {len(self.points)} points struck by tripwire")
        replies = f"{verdict.answers} answers, {verdict.errors} told of a failure, {verdict.waits} to wait"
        rows.append(f"  {verdict.questions:6}  messages of customers ({replies})")
        rows += [f"  {getattr(verdict, name):6}  {name}" for name in VIOLATIONS]
        rows.append(f"  {verdict.healed:6}  second copies stood for a while, {verdict.longest:.1f} s at most")
        rows += [*verdict.notes, *self.crashed, *self.unsettled, *self.leaks]
        return "\n".join(rows)
