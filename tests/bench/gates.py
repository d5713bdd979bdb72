"""The gates: what the service owes beside a plain relay, and whether it does."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from tests.bench import exports, streams
from tests.bench.long import TURNS
from tests.bench.window import FULL

Rounds = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Gate:
    """One promise: ``value`` must be at least or at most ``limit``. ``note`` says from what it was made."""

    name: str
    value: float
    limit: float
    at_least: bool
    note: str = ""
    aim: float | None = None

    @property
    def passed(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def verdict(self) -> str:
        if not self.passed:
            away = abs(self.value - self.limit) / self.limit if self.limit else 0.0
            return f"MISSED by {away:.0%}"
        if self.aim is not None and self.value < self.aim:
            return f"pass (aim {self.aim:g})"
        return "pass"


def gates_of(result: dict[str, Any]) -> list[Gate]:
    """All gates that the figures allow to judge."""
    rounds: Rounds = result.get("rounds", [])
    found = [*_throughput(rounds), *_latency(rounds), *_first_text(rounds), *_memory(rounds)]
    for label, name, most in (("history", "full", 1.20), ("chats", "", 1.10)):
        pair = result.get(label, {}).get(name) if name else result.get(label)
        if pair:
            low, high = pair["ratios"]
            note = f"{pair['few_cpu_ms']} and {pair['many_cpu_ms']} ms CPU; {low:.2f} to {high:.2f}{_marks([pair])}"
            found.append(Gate(_SCALING[label], pair["ratio"], most, at_least=False, note=note))
    found += _start(rounds)
    found += _stops(result.get("stop", {}))
    if "prefix" in result:
        shares = result["prefix"]
        note = f"{shares['requests']} requests, {shares['tokens']:,} tokens"
        found.append(Gate("prompt tokens in an unchanged prefix", shares["share"], 0.90, at_least=True, note=note))
    return [
        *found,
        *_long(result.get("long", [])),
        *_streams(result.get("streams", {})),
        *_export(result.get("export", {})),
    ]


MOST_STOP_MS: Final = 200.0
"""From the press to the chat API seeing its caller leave, ingress and worker in two processes."""

_SCALING: Final = {
    "history": "cost of a turn, old chat / young chat (window full in both)",
    "chats": "cost of a message, many chats / 100 chats",
}


def ratio(rounds: Rounds, figure: Callable[[dict[str, Any]], float]) -> float:
    """The median over the rounds of service / relay."""
    return median(figure(pair["service"]) / figure(pair["relay"]) for pair in rounds)


def middle(rounds: Rounds, name: str, figure: Callable[[dict[str, Any]], float]) -> float:
    """The median over the rounds of one system's figure."""
    return median(figure(pair[name]) for pair in rounds)


def _spread(rounds: Rounds, figure: Callable[[dict[str, Any]], float]) -> str:
    """The lowest and the highest ratio of a round: what the median hides."""
    ratios = [figure(pair["service"]) / figure(pair["relay"]) for pair in rounds]
    return f"; rounds {min(ratios):.2f} to {max(ratios):.2f}"


def _both(rounds: Rounds, figure: Callable[[dict[str, Any]], float], unit: str) -> str:
    relay, service = (middle(rounds, name, figure) for name in ("relay", "service"))
    return f"{service:,.1f} and {relay:,.1f} {unit}"


def _throughput(rounds: Rounds) -> Iterator[Gate]:
    for label, name in (("one_chunk", "1 chunk"), ("twenty_chunks", "20 chunks")):
        if not rounds or label not in rounds[0]["service"]:
            continue

        def figure(system: dict[str, Any], label: str = label) -> float:
            return float(system[label]["answers_per_cpu_second"])

        note = (
            _both(rounds, figure, "a CPU second")
            + _spread(rounds, figure)
            + _marks([pair[side][label] for pair in rounds for side in pair])
        )
        yield Gate(f"answers per core, {name}", ratio(rounds, figure), 1.5, at_least=True, note=note, aim=3.0)


def _latency(rounds: Rounds) -> Iterator[Gate]:
    if not rounds or "half_load" not in rounds[0]["service"]:
        return
    yield _no_slower(rounds, "added latency p50, paced answers", "paced", "added_ms", "p50")
    yield _no_slower(rounds, "added latency p50, half load", "half_load", "added_ms", "p50")
    yield _no_slower(rounds, "added latency p99, half load", "half_load", "added_ms", "p99")


def _first_text(rounds: Rounds) -> Iterator[Gate]:
    """The relay drafts the first chunk at once, so there is nothing to win but by doing less for it."""
    if not rounds or "streaming" not in rounds[0]["service"]:
        return
    for percent in ("p50", "p95"):
        yield _no_slower(rounds, f"first text {percent}, streamed answers", "streaming", "first_text_ms", percent)


def _no_slower(rounds: Rounds, name: str, label: str, what: str, percent: str) -> Gate:
    """At most twice the relay's time."""

    def figure(system: dict[str, Any]) -> float:
        return float(system[label][what][percent])

    note = (
        _both(rounds, figure, "ms")
        + _spread(rounds, figure)
        + _marks([pair[side][label] for pair in rounds for side in pair])
    )
    return Gate(name, ratio(rounds, figure), 2.0, at_least=False, note=note)


def _stops(window: dict[str, Any]) -> Iterator[Gate]:
    for way, name in (("button", "Telegram's button"), ("command", "/stop")):
        if way not in window:
            continue
        stopped = window[way]
        times = stopped["ms"]
        note = f"{stopped['presses']} presses; p50 {times['p50']:.1f}, max {times['max']:.1f} ms{_marks([window])}"
        yield Gate(f"ms to a cancelled request p95, {name}", times["p95"], MOST_STOP_MS, at_least=False, note=note)
        yield Gate(f"answers that went on, {name}", stopped["ignored"], 0, at_least=False, note="counted as 20 s each")


def _long(talks: list[dict[str, Any]]) -> Iterator[Gate]:
    for talk in talks:
        label = f"{talk['budget']:,} tokens{' with summaries' if talk['summed_up'] else ''}"
        trims = f"{talk['trims']} trims in {TURNS:,} turns"
        yield Gate(f"requests unchanged in the next, {label}", talk["share"], 0.90, at_least=True, note=trims)
        largest = f"{talk['largest']:,} tokens"
        yield Gate(f"largest request / budget, {label}", talk["largest"] / talk["budget"], 1.0, False, largest)
        name = f"third turn known at turn {TURNS:,}, {label}"
        yield Gate(name, float(talk["known"]), 1.0, at_least=True, note="told by the offline model")


def _streams(loads: dict[str, streams.Rounds]) -> Iterator[Gate]:
    for rounds in loads.values():
        label = f"{streams.width(rounds)} streams"
        for name, most, figure, unit in (
            ("CPU a chunk", 0.60, streams.cpu, "µs"),
            ("first text p50", 1.05, streams.first("p50"), "ms"),
        ):
            ratios = streams.ratios(rounds, "ours", figure)
            both = " and ".join(f"{streams.middle(rounds, client, figure):,.2f}" for client in ("ours", "httpx"))
            note = f"{both} {unit}, plain httpx; rounds {min(ratios):.2f} to {max(ratios):.2f}"
            yield Gate(f"{name}, {label}", median(ratios), most, at_least=False, note=note)


def _export(figures: dict[str, Any]) -> Iterator[Gate]:
    if not figures:
        return
    million = figures["messages"] / 1e6
    cpu, store = figures["cpu"], figures["store_cpu"]
    note = f"{figures['messages']:,} messages in {figures['parts']} parts: {cpu:.1f} s, its store {store:.1f} s"
    name = "CPU seconds to export a million messages"
    yield Gate(name, (cpu + store) / million, exports.MOST_SECONDS, at_least=False, note=note)
    held = figures["held_ms"]
    yield Gate("MiB that an export grows by", figures["grown_mib"], exports.MOST_MIB, at_least=False)
    note = f"p50 {held['p50']:.1f}, p99.9 {held['p999']:.1f} ms"
    yield Gate("ms that an export holds others up, at most", held["max"], exports.MOST_HELD_MS, False, note)
    forget = figures["forget"]
    note = f"{exports.FORGOTTEN:,} messages, {forget['ms']:.0f} ms in all, keys included"
    yield Gate("ms of the store to forget a customer", forget["store_ms"], exports.MOST_FORGET_MS, False, note)


def _memory(rounds: Rounds) -> Iterator[Gate]:
    if not rounds or "memory" not in rounds[0]["service"]:
        return

    def figure(system: dict[str, Any]) -> float:
        return float(system["memory"]["process"])

    store = middle(rounds, "service", lambda system: float(system["memory"]["store"]))
    note = f"{_both(rounds, figure, 'MiB')}; its store {store:.1f} MiB"
    yield Gate("memory of the process after the warm-up", ratio(rounds, figure), 1.2, at_least=False, note=note)


def _start(rounds: Rounds) -> Iterator[Gate]:
    if not rounds:
        return
    polls = _both(rounds, lambda system: float(system["start"]["first_poll"]), "s")
    answers = _both(rounds, lambda system: float(system["start"]["first_answer"]), "s")
    cpu = middle(rounds, "service", lambda system: float(system["start"]["cpu"]))
    others = middle(rounds, "service", lambda system: float(system["start"]["others_share"]))
    value = middle(rounds, "service", lambda system: float(system["start"]["ready"]))
    note = f"first poll {polls}; first answer {answers}; {cpu:.1f} s of CPU, others had {others:.0%} of the core"
    yield Gate("seconds until ready", value, 3.0, at_least=False, note=note)


def _marks(windows: list[dict[str, Any]]) -> str:
    """What a reader must know of the runs behind a figure."""
    marks = []
    if any(window.get("disturbed") for window in windows):
        marks.append("disturbed by other processes")
    if "half_rate" in windows[0]:
        marks.append(f"at {median(window['half_rate'] for window in windows):.0f}/s")
    if any(window.get("bench_core_busy", 0) > FULL for window in windows):
        marks.append("the bench's own core was full")
    if lost := sum(window.get("lost", 0) for window in windows):
        marks.append(f"{lost} unanswered")
    return f" ({'; '.join(marks)})" if marks else ""
