"""The figures as tables for a terminal."""

from collections.abc import Callable
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench import streams
from tests.bench.gates import Gate, Rounds, middle, ratio
from tests.bench.long import PRICES, TURNS
from tests.bench.readers import CLIENTS
from tests.bench.streamer import CHUNK_SECONDS

Figure = Callable[[dict[str, Any]], float]


def show(console: Console, result: dict[str, Any], gates: list[Gate]) -> None:
    """Everything that was measured, then the gates."""
    if result.get("rounds"):
        console.print(_beside(result["rounds"]))
    if any(name in result for name in ("history", "chats", "prefix")):
        console.print(_scaling(result))
    if "stop" in result:
        console.print(_stops(result["stop"]))
    if "streams" in result:
        console.print(_streams(result["streams"]))
    if "long" in result:
        console.print(_long(result["long"]))
    console.print(_verdicts(gates))
    if result["skipped"]:
        console.print(f"No time was left for: {', '.join(result['skipped'])}.")
    missed = [gate for gate in gates if not gate.passed]
    console.print(f"{len(gates) - len(missed)} of {len(gates)} gates passed, in {result['seconds']:.0f} s.")


def _verdicts(gates: list[Gate]) -> Table:
    table = Table("gate", "value", "limit", "verdict", "made of (service and relay)", title="Gates")
    for gate in gates:
        limit = f"{'≥' if gate.at_least else '≤'} {gate.limit:g}"
        style = "green" if gate.passed else "red"
        table.add_row(gate.name, f"{gate.value:.2f}", limit, f"[{style}]{gate.verdict}[/{style}]", gate.note)
    return table


def _beside(rounds: Rounds) -> Table:
    table = Table("medians", "relay", "service", "service / relay", title=f"Side by side, {len(rounds)} rounds")
    for column in table.columns[1:]:
        column.justify = "right"
    for label, unit, figure in _rows(rounds[0]["service"]):
        relay, service = (middle(rounds, name, figure) for name in ("relay", "service"))
        shown = f"{ratio(rounds, figure):.2f}" if all(figure(pair["relay"]) for pair in rounds) else "–"
        table.add_row(label, f"{relay:,.2f} {unit}", f"{service:,.2f} {unit}", shown)
    return table


def _rows(measured: dict[str, Any]) -> list[tuple[str, str, Figure]]:
    rows: list[tuple[str, str, Figure]] = []
    for label, name in _WINDOWS.items():
        if label in measured:
            rows += _window_rows(label, name)
    for label, name in _ADDED.items():
        if label in measured:
            rows += [(f"{name}: added {p}", "ms", _at(label, "added_ms", p)) for p in ("p50", "p95", "p99")]
            rows.append((f"{name}: answers", "/s", _at(label, "answers_per_second")))
            rows.append((f"{name}: CPU an answer", "ms", _at(label, "cpu_ms_per_answer")))
    if "streaming" in measured:
        rows += [
            (f"streamed: first text {p}", "ms", _at("streaming", "first_text_ms", p)) for p in ("p50", "p95", "max")
        ]
        rows.append(("streamed: drafts an answer", "", _at("streaming", "calls_per_answer", "sendMessageDraft")))
        rows.append(("streamed: CPU share", "", _at("streaming", "cpu_share")))
    for label, name in (("memory", "memory after the warm-up"), ("memory_after", "memory at the end")):
        if label in measured:
            rows.append((name, "MiB", _at(label, "process")))
            rows.append((f"{name}: store", "MiB", _at(label, "store")))
    for label, name in (("first_poll", "first poll"), ("first_answer", "first answer"), ("cpu", "CPU until then")):
        rows.append((name, "s", _at("start", label)))
    if "idle" in measured:
        rows.append(("idle", "% CPU", _at("idle", "cpu_percent")))
    return rows


_WINDOWS: Final = {"one_chunk": "1 chunk", "twenty_chunks": "20 chunks"}
_ADDED: Final = {"half_load": "half load", "paced": "paced, 8 chats"}


def _window_rows(label: str, name: str) -> list[tuple[str, str, Figure]]:
    return [
        (f"{name}: answers per core", "/CPU s", _at(label, "answers_per_cpu_second")),
        (f"{name}: answers", "/s", _at(label, "answers_per_second")),
        (f"{name}: CPU an answer", "ms", _at(label, "cpu_ms_per_answer")),
        (f"{name}: of it the store", "ms", _at(label, "store_cpu_ms_per_answer")),
        (f"{name}: drafts an answer", "", _at(label, "calls_per_answer", "sendMessageDraft")),
        (f"{name}: the bench's share of its core", "", _at(label, "bench_share")),
        (f"{name}: that core in use by all", "", _at(label, "bench_core_busy")),
        (f"{name}: others on the system's core", "", _at(label, "others_share")),
    ]


def _at(*path: str) -> Figure:
    def figure(system: dict[str, Any]) -> float:
        value: Any = system
        for name in path:
            value = value.get(name, 0.0)
        return float(value)

    return figure


def _scaling(result: dict[str, Any]) -> Table:
    table = Table("service alone", "few", "many", "many / few", "and", title="As time goes by")
    for label, name in (("full", "history, window full in both"), ("default", "history, default window (information)")):
        if pair := result.get("history", {}).get(label):
            table.add_row(name, *_costs(pair), f"added {pair['few_added_ms']:.1f} and {pair['many_added_ms']:.1f} ms")
    if pair := result.get("chats"):
        stores = " and ".join(f"{mib:,.0f}" for mib in pair["store_mib"].values())
        more = f"ready with many in {pair['ready_with_many']:.1f} s, stores {stores} MiB"
        table.add_row("chats", *_costs(pair), more)
    if shares := result.get("prefix"):
        table.add_row("prefix", "", "", "", f"{shares['share']:.1%} of {shares['tokens']:,} prompt tokens unchanged")
    return table


def _stops(window: dict[str, Any]) -> Table:
    table = Table("stop, in ms", "presses", "p50", "p95", "max", "answer stands p50", title="Across two processes")
    for way, name in (("button", "Telegram's button"), ("command", "/stop")):
        if stopped := window.get(way):
            times = [f"{stopped['ms'][figure]:.1f}" for figure in ("p50", "p95", "max")]
            table.add_row(name, str(stopped["presses"]), *times, f"{stopped['said_ms']['p50']:.1f}")
    return table


def _streams(loads: dict[str, streams.Rounds]) -> Table:
    table = Table("streams, reader", "CPU a chunk", "/ httpx", "first text p50", "p95", "CPU share", "took")
    table.title = f"Reading streams of a chunk every {1000 * CHUNK_SECONDS:.0f} ms, medians"
    for column in table.columns[1:]:
        column.justify = "right"
    for rounds in loads.values():
        for client in CLIENTS:
            times = [f"{streams.middle(rounds, client, streams.first(percent)):,.2f} ms" for percent in ("p50", "p95")]
            table.add_row(
                f"{streams.width(rounds)}, {client}",
                f"{streams.middle(rounds, client, streams.cpu):.1f} µs",
                f"{median(streams.ratios(rounds, client, streams.cpu)):.2f}",
                *times,
                *(f"{streams.middle(rounds, client, _at(name)):.2f}" for name in ("cpu_share", "seconds")),
            )
    return table


def _long(talks: list[dict[str, Any]]) -> Table:
    prices = "; ".join(f"${price:g} {name}" for name, price in PRICES.items())
    table = Table("budget", "notes", "sent", "unchanged", "cached", "answered", "without cache", "with it", "trims")
    table.title = f"Cost of {TURNS:,} turns in tokens, and at example prices ({prices} a million)"
    for column in table.columns:
        column.justify = "right"
    for talk in talks:
        notes = "and summaries" if talk["summed_up"] else "statements"
        tokens = [f"{talk[name]:,}" for name in ("sent", "unchanged", "cached", "answered")]
        dollars = [f"${talk[name]:.2f}" for name in ("full_dollars", "cached_dollars")]
        table.add_row(f"{talk['budget']:,}", notes, *tokens, *dollars, str(talk["trims"]))
    return table


def _costs(pair: dict[str, Any]) -> tuple[str, str, str]:
    return f"{pair['few_cpu_ms']:.2f} ms CPU", f"{pair['many_cpu_ms']:.2f} ms CPU", f"{pair['ratio']:.2f}"
